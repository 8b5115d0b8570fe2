"""The HTTP server of a process that has connections."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from typing import TYPE_CHECKING, Final

import uvicorn

from modelyard_runtime.errors import port_taken
from modelyard_runtime.http_protocol import HttpProtocol

if TYPE_CHECKING:
    import socket
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
        certificates: What to show, on the port for TLS if there is one, else on the only one; None: no
            TLS is spoken.
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
        self._host, self._https_port = settings.http_host, settings.https_port
        self._tls = None if certificates is None else certificates.context
        only = self._tls if settings.https_port is None else None
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
                ssl_context_factory=None if only is None else lambda *_: only,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(finish_s),
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen.

        Args:
            sockets: They are listened on; None: the settings tell where.

        Raises:
            StartupError: ``InvalidSettings``: the port for TLS is taken.
        """
        await super().startup(sockets)
        if self._https_port is None:
            return
        try:
            encrypted = await asyncio.get_running_loop().create_server(
                self._protocol,
                self._host,
                self._https_port,
                ssl=self._tls,
                reuse_port=sockets is not None,  # workers share it, as they do the other one
            )
        except OSError as error:
            raise port_taken(
                "MODELYARD_HTTPS_PORT", self._host, self._https_port, str(error.strerror)
            ) from error
        self.servers.append(encrypted)

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to whoever runs the server."""
        yield
