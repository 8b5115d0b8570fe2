"""The HTTP server of a process that has connections."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from modelyard_runtime.api.problems import problem_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from modelyard_runtime.certificates import Certificates
    from modelyard_runtime.settings import RuntimeSettings

_MAX_GRACE_S: Final = 10.0
_GRACE_SHARE: Final = 1 / 3
_KEEP_ALIVE_S: Final = 620
"""Longer than proxies keep idle connections, so that it is never us who hangs up on a request."""


def drain_grace_s(drain_timeout_s: float) -> float:
    """Choose how long to go on accepting after SIGTERM.

    A pod that is being deleted leaves the EndpointSlices at once, but proxies and kube-proxy learn
    of it seconds later; whoever still comes in between must be answered.

    Args:
        drain_timeout_s: Grace and finish together, in seconds.

    Returns:
        10 s, or a third of a short timeout.
    """
    return min(_MAX_GRACE_S, drain_timeout_s * _GRACE_SHARE)


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, except that even a request it cannot parse gets the common error."""

    def send_400_response(self, msg: str) -> None:
        body = problem_body(msg, "malformed", "unparsed")
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()


class WebServer(uvicorn.Server):
    """uvicorn's server without its signal handlers: a first SIGTERM only starts the drain.

    Args:
        app: Answers.
        settings: Where to listen, and how long a drain may take.
        certificates: What to show; None: no TLS is spoken.
    """

    def __init__(
        self, app: ASGIApp, settings: RuntimeSettings, certificates: Certificates | None
    ) -> None:
        finish_s = settings.drain_timeout_s - drain_grace_s(settings.drain_timeout_s)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.http_host,
                port=settings.http_port,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ssl_context_factory=(
                    None if certificates is None else lambda *_: certificates.context
                ),
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(finish_s),
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to whoever runs the server."""
        yield
