"""The HTTP server of a process that has connections."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import TYPE_CHECKING, Final

import uvicorn

from modelyard_runtime.http_protocol import HttpProtocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from modelyard_runtime.api.lane import Lane
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


class WebServer(uvicorn.Server):
    """uvicorn's server without its signal handlers: a first SIGTERM only starts the drain.

    Args:
        app: Answers.
        settings: Where to listen, and how long a drain may take.
        certificates: What to show; None: no TLS is spoken.
        lane: The short way to the data plane; None: there is none in this process.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: RuntimeSettings,
        certificates: Certificates | None,
        lane: Lane | None = None,
    ) -> None:
        finish_s = settings.drain_timeout_s - drain_grace_s(settings.drain_timeout_s)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.http_host,
                port=settings.http_port,
                http=functools.partial(HttpProtocol, lane),  # type: ignore[arg-type] # called, as a class is
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
