"""Turns tracing on and off; while it is off, none of its libraries is imported."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.auth.authenticator import Header
    from modelyard_runtime.call import Call
    from modelyard_runtime.directives import Directives, TracingDirective
    from modelyard_runtime.tracing.spans import Spans

_log = structlog.stdlib.get_logger(__name__)


class Tracing:
    """Begins the spans of requests.

    Args:
        resource: What every span says of the process.
    """

    def __init__(self, resource: Mapping[str, str]) -> None:
        self._resource = resource
        self._wanted: TracingDirective | None = None
        self._switching = threading.Lock()
        self._applied: TracingDirective | None = None
        self._spans: Spans | None = None

    @property
    def on(self) -> bool:
        """Whether spans are begun."""
        return self._spans is not None

    def apply(self, directives: Directives) -> None:
        """Send spans where the directives say from now on, or nowhere.

        Args:
            directives: The current ones.
        """
        if directives.tracing != self._wanted:
            self._wanted = directives.tracing
            # Not on the event loop: the libraries take long to import, and the last spans to leave.
            threading.Thread(target=self._switch, name="tracing", daemon=True).start()

    def begin(self, call: Call, header: Header) -> None:
        """Begin the span of a request, if tracing is on.

        Args:
            call: The request; it has the span from now on.
            header: Looks a request header (gRPC: metadata) up by its lower-case name.
        """
        if self._spans is not None:
            self._spans.begin(call, header)

    def close(self, timeout_s: float) -> None:
        """Send what has ended.

        Args:
            timeout_s: Longest time for that, in seconds.
        """
        self._wanted = None
        closing = threading.Thread(target=self._switch, name="tracing", daemon=True)
        closing.start()
        closing.join(timeout_s)

    def _switch(self) -> None:
        with self._switching:
            wanted, before = self._wanted, self._spans
            if wanted == self._applied:
                return
            try:
                self._spans = self._open(wanted)
            except Exception:  # noqa: BLE001 - the thread's root: requests are answered all the same
                _log.exception("tracing cannot be changed")
                return
            self._applied = wanted
            if before is not None:
                before.close()
            _log.info("tracing changed", endpoint=wanted and wanted.otlp_endpoint)

    def _open(self, wanted: TracingDirective | None) -> Spans | None:
        if wanted is None:
            return None
        from modelyard_runtime.tracing.spans import Spans  # noqa: PLC0415 - see the module

        return Spans(wanted, self._resource)
