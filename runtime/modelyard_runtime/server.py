"""The process: listen, load, serve, drain, exit with the right code."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvloop

from modelyard_runtime.api.lane import Lane
from modelyard_runtime.api.problems import STATUS
from modelyard_runtime.api.remote import RemoteRoutes
from modelyard_runtime.api.routes import DataRoutes
from modelyard_runtime.app import create_app
from modelyard_runtime.errors import StartupError, port_taken
from modelyard_runtime.service import Service
from modelyard_runtime.status_server import StatusServer
from modelyard_runtime.termination import write_termination_message
from modelyard_runtime.web_server import WebServer, drain_grace_s
from modelyard_runtime.workers.pool import WorkerPool

if TYPE_CHECKING:
    from modelyard_runtime.settings import RuntimeSettings

_log = structlog.stdlib.get_logger(__name__)

_LAST_WORDS_S: Final = 0.5


class Process:
    """One run of the runtime.

    Args:
        settings: The environment.
    """

    def __init__(self, settings: RuntimeSettings) -> None:
        self._settings = settings
        self._service = Service(settings)
        self._stop = asyncio.Event()
        self._at_once = False
        self._grpc: Any = None
        grace_s = drain_grace_s(settings.drain_timeout_s)
        self._grace_s = grace_s
        self._server: WebServer | WorkerPool
        if settings.http_workers > 1:
            app = create_app(self._service, RemoteRoutes(self._service))
            self._server = WorkerPool(app, settings)
        else:
            routes = DataRoutes(self._service)
            self._server = WebServer(
                create_app(self._service, routes),
                settings,
                self._service.certificates,
                Lane(routes, self._service),
            )

    async def run(self) -> int:
        """Serve until a signal or a failure ends it.

        Returns:
            The exit code: 0 after a drain, 1 after a failed start.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_signal, True)
        loop.add_signal_handler(signal.SIGINT, self._on_signal, False)
        status = self._listen()
        serving = loop.create_task(self._server.serve())
        opening = loop.create_task(self._open())
        watching = loop.create_task(self._service.watch())
        starting = loop.create_task(self._service.start(opening))
        try:
            stopped = loop.create_task(self._stop.wait())
            await asyncio.wait({starting, stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
            await self._drain(serving)
        finally:
            for task in (starting, watching, stopped, opening):
                task.cancel()
            self._service.close()
            status.close()
        return 0

    def _listen(self) -> StatusServer:
        settings = self._settings
        try:
            return StatusServer(
                settings.metrics_port,
                self._service.status,
                self._service.metrics.registry,
                host=settings.http_host,
            )
        except OSError as error:
            raise port_taken(
                "MODELYARD_METRICS_PORT",
                settings.http_host,
                settings.metrics_port,
                str(error.strerror),
            ) from error

    async def _drain(self, serving: asyncio.Task[None]) -> None:
        self._service.drain()
        if not self._at_once and not serving.done():
            _log.info("draining, still accepting", grace_seconds=self._grace_s)
            await asyncio.wait({serving}, timeout=self._grace_s)
        self._server.should_exit = True
        if self._grpc is not None:
            await self._grpc.stop(self._settings.drain_timeout_s - self._grace_s)
        await serving
        _log.info("drained")

    async def _open(self) -> None:
        """Open the ports that take longer than this process's own."""
        await self._serve_grpc()
        if isinstance(self._server, WorkerPool):
            await self._server.listening.wait()

    async def _serve_grpc(self) -> None:
        """Open the gRPC port; its library is imported beside the model, which takes longer."""
        module = await asyncio.to_thread(
            importlib.import_module, "modelyard_runtime.grpc_api.server"
        )
        self._service.directives.poll()
        grpc = module.GrpcServer(self._service, lambda error: STATUS[type(error)])
        await grpc.start()
        self._grpc = grpc

    def _on_signal(self, graceful: bool) -> None:  # noqa: FBT001 - called by the loop
        if self._stop.is_set():
            _log.warning("second signal, leaving at once")
            self._service.journal.close(_LAST_WORDS_S)
            self._server.force_exit = True
            self._server.should_exit = True
            os._exit(0 if graceful else 130)
        # Ctrl-C comes from a person at a terminal: no endpoint has to propagate.
        self._at_once = not graceful
        self._stop.set()


def serve(settings: RuntimeSettings) -> int:
    """Run the runtime until it ends.

    Args:
        settings: The environment.

    Returns:
        The exit code.
    """

    async def main() -> int:
        try:
            return await Process(settings).run()
        except StartupError as failure:
            _log.error(
                "start failed",
                reason=str(failure.reason),
                problem=failure.message,
                hint=failure.hint,
            )
            write_termination_message(settings.termination_log, failure.as_document())
            # A loader that hangs in native code cannot be asked to stop.
            sys.stdout.flush()
            os._exit(1)

    return _run(main())


def _run(main: Any) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result: int = runner.run(main)
        return result
