"""The server's side of its HTTP workers: it starts them, answers for them, and ends them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import structlog

from modelyard_runtime.engine.child_process import interpreter_flags
from modelyard_runtime.web_server import drain_grace_s
from modelyard_runtime.workers.link import Link
from modelyard_runtime.workers.messages import Hello, Leave
from modelyard_runtime.workers.port import reserved_port

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from modelyard_runtime.settings import RuntimeSettings

_log = structlog.stdlib.get_logger(__name__)

_MODULE: Final = "modelyard_runtime.workers"
_DELAYS_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Before a worker that ended is started again; the last one for all further times."""
_STABLE_S: Final = 60.0
_LAST_S: Final = 2.0
"""What a worker may take longer than the drain to end."""


class WorkerPool:
    """Several processes that take connections, in front of one app.

    It has the attributes by which a ``WebServer`` is ended.

    Args:
        app: Answers; each scope holds the request's ``RemoteCall``.
        settings: Where to listen, how many workers, and how long a drain may take.

    Raises:
        StartupError: ``InvalidSettings``: the port is taken.
    """

    def __init__(self, app: ASGIApp, settings: RuntimeSettings) -> None:
        self._app = app
        self._settings = settings
        self._reserved = reserved_port(
            "MODELYARD_HTTP_PORT", settings.http_host, settings.http_port
        )
        self._encrypted = (
            None
            if settings.https_port is None
            else reserved_port("MODELYARD_HTTPS_PORT", settings.http_host, settings.https_port)
        )
        self._leaving = asyncio.Event()
        self._workers: set[Link] = set()
        self.force_exit = False
        self.listening = asyncio.Event()
        """Set once a worker takes connections."""

    @property
    def port(self) -> int:
        """The port on which the workers listen."""
        number: int = self._reserved.getsockname()[1]
        return number

    @property
    def should_exit(self) -> bool:
        """Whether the workers are to finish and end; set to end them."""
        return self._leaving.is_set()

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        if value:
            self._leaving.set()
            for worker in self._workers:
                worker.channel.send(Leave())

    async def serve(self) -> None:
        """Keep the workers running until they have been told to end, and have."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._settings.http_workers):
                    tasks.create_task(self._keep(number))
        finally:
            self._reserved.close()
            if self._encrypted is not None:
                self._encrypted.close()

    async def _keep(self, number: int) -> None:
        """Run one worker, again and again; the task's root."""
        failures = 0
        while not self.should_exit:
            begun = time.monotonic()
            await self._run_one()
            if self.should_exit:
                return
            failures = 1 if time.monotonic() - begun > _STABLE_S else failures + 1
            delay_s = _DELAYS_S[min(failures, len(_DELAYS_S)) - 1]
            _log.error("http worker ended", worker=number, again_in_s=delay_s)
            try:
                await asyncio.wait_for(self._leaving.wait(), delay_s)
            except TimeoutError:
                continue

    async def _run_one(self) -> None:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - starts at once; our own module
            [sys.executable, *interpreter_flags(), "-m", _MODULE, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        worker = Link(self._app)
        self._workers.add(worker)
        try:
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: worker.channel, sock=ours)
            worker.channel.send(Hello(self._settings, self.port))
            if self.should_exit:
                worker.channel.send(Leave())
            listening = loop.create_task(self._note(worker))
            await self._end_of(worker)
            listening.cancel()
        finally:
            self._workers.discard(worker)
            worker.channel.close()
            process.kill()  # its socket is closed: it has ended, or is of no use
            await asyncio.to_thread(process.wait)

    async def _note(self, worker: Link) -> None:
        await worker.listening.wait()
        _log.info("http worker listens", port=self.port)
        self.listening.set()

    async def _end_of(self, worker: Link) -> None:
        """Wait for the end of a worker; once told to leave it has as long as a drain lasts."""
        ended = asyncio.ensure_future(worker.ended.wait())
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait({ended, leaving}, return_when=asyncio.FIRST_COMPLETED)
            timeout_s = self._settings.drain_timeout_s
            await asyncio.wait({ended}, timeout=timeout_s - drain_grace_s(timeout_s) + _LAST_S)
        finally:
            ended.cancel()
            leaving.cancel()
