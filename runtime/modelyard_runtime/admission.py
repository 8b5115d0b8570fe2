"""Who may come in: the one gate in front of every protocol's data plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelyard_runtime.errors import OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.call import Call


class Admission:
    """Counts who is inside and turns away whom the limits do not allow.

    Args:
        max_in_flight: Requests that may be inside the process.
        retry_after_s: Estimates when there will be room again, in seconds.
    """

    def __init__(self, max_in_flight: int, retry_after_s: Callable[[], float]) -> None:
        self._most = max_in_flight
        self._retry_after_s = retry_after_s
        self.inflight = 0

    async def enter(self, call: Call, header: Callable[[str], str | None]) -> None:
        """Let a call in; every call that entered, admitted or not, must ``leave``.

        Args:
            call: The call; its principal is noted.
            header: Looks a request header (gRPC: metadata) up by its lower-case name.

        Raises:
            OverloadedError: The process is full.
        """
        del call, header  # no rule needs them yet
        self.inflight += 1
        if self.inflight > self._most:
            raise OverloadedError(
                f"{self._most} requests are inside, which is the limit",
                retry_after_s=self._retry_after_s(),
                reason="in_flight",
            )

    def leave(self) -> None:
        """Count a call out."""
        self.inflight -= 1
