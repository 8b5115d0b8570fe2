"""Who may come in: the one gate in front of every protocol's data plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelyard_runtime.errors import NotReadyError, OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.auth.authenticator import Authenticator, Header
    from modelyard_runtime.call import Call
    from modelyard_runtime.directives import DirectivesFile
    from modelyard_runtime.rate_limits import RateLimits
    from modelyard_runtime.tracing.switch import Tracing


class Admission:
    """Names who asks, counts who is inside, and turns away whom the limits do not allow.

    Args:
        directives: Until they have been read, nobody is let in.
        authenticator: Tells who asks.
        limits: What one caller may ask.
        tracing: Records those who come.
        max_in_flight: Requests that may be inside the process.
        retry_after_s: Estimates when there will be room again, in seconds.
    """

    def __init__(
        self,
        directives: DirectivesFile,
        authenticator: Authenticator,
        *,
        limits: RateLimits,
        tracing: Tracing,
        max_in_flight: int,
        retry_after_s: Callable[[], float],
    ) -> None:
        self._directives = directives
        self._authenticator = authenticator
        self._limits = limits
        self._tracing = tracing
        self._most = max_in_flight
        self._retry_after_s = retry_after_s
        self.inflight = 0
        self.is_copy: Callable[[Header], bool] = _never
        """Tells from its headers whether a request is a copy of another, which counts nowhere."""

    async def enter(self, call: Call, header: Header) -> None:
        """Let a call in; every call that came here, admitted or not, must ``leave``.

        Nothing of its body needs to have been read.

        Args:
            call: The call; its principal is noted, and whether it is a copy.
            header: Looks a request header (gRPC: metadata) up by its lower-case name.

        Raises:
            NotReadyError: The directives have not been read yet.
            UnauthorizedError: There are no credentials, or they do not hold.
            ForbiddenError: The key is nobody's.
            RateLimitedError: The caller asks too often, or too much at a time.
            OverloadedError: The process is full.
        """
        call.header = header
        self._tracing.begin(call, header)
        call.principal = await self.authenticate(header)
        call.shadow = self.is_copy(header)
        if call.shadow:
            return
        if self.inflight >= self._most:
            raise OverloadedError(
                f"{self._most} requests are inside, which is the limit",
                retry_after_s=self._retry_after_s(),
                reason="in_flight",
            )
        caller = f"principal {call.principal}" if call.principal else f"source {call.source}"
        self._limits.enter(caller)
        call.caller = caller
        self.inflight += 1

    def leave(self, call: Call) -> None:
        """Count a call out.

        Args:
            call: As given to ``enter``.
        """
        if call.caller:
            self._limits.leave(call.caller)
            call.caller = ""
            self.inflight -= 1

    async def authenticate(self, header: Header) -> str:
        """Name a caller who comes for something else than an inference.

        Args:
            header: As for ``enter``.

        Returns:
            The principal; empty where nobody has to say who it is.

        Raises:
            NotReadyError: The directives have not been read yet.
            UnauthorizedError: There are no credentials, or they do not hold.
            ForbiddenError: The key is nobody's.
        """
        if not self._directives.applied:
            # They may ask for authentication: until they have said so, everybody is a stranger.
            raise NotReadyError("the directives have not been read yet")
        return await self._authenticator.principal(header)


def _never(header: Header) -> bool:
    del header
    return False
