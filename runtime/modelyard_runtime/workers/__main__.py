"""``python -m modelyard_runtime.workers``: a process that speaks HTTP for the server.

It has no model, no limits and no state of its own; it ends with the server, or when told to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvloop

from modelyard_runtime.certificates import certificates_of
from modelyard_runtime.log import configure_logging
from modelyard_runtime.web_server import WebServer
from modelyard_runtime.workers.channel import Channel
from modelyard_runtime.workers.forwarder import Forwarder
from modelyard_runtime.workers.messages import Hello, Leave, Listening
from modelyard_runtime.workers.port import listening_socket

if TYPE_CHECKING:
    from collections.abc import Sequence


class Worker:
    """One life of a worker.

    Args:
        end: The socket that leads to the server.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._channel = Channel(self._take, _server_is_gone)
        self._forwarder = Forwarder(self._channel)
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._server: WebServer | None = None
        self._leaving = False

    async def run(self) -> None:
        """Serve until the server says to leave."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self._channel, sock=self._end)
        settings, port = await self._hello
        certificates = certificates_of(settings)
        self._server = WebServer(self._forwarder, settings, certificates)
        self._server.should_exit = self._leaving
        watching = None if certificates is None else loop.create_task(certificates.watch())
        listener = listening_socket(settings.http_host, port)
        self._channel.send(Listening())
        await self._server.serve(sockets=[listener])
        if watching is not None:
            watching.cancel()

    def _take(self, message: Any) -> None:
        if isinstance(message, Hello):
            self._hello.set_result(message)
        elif not isinstance(message, Leave):
            self._forwarder.take(message)
        else:
            self._leaving = True
            if self._server is not None:
                self._server.should_exit = True


def _server_is_gone() -> None:
    # Nobody can answer any more, and nobody is left to be told.
    os._exit(1)


def main(arguments: Sequence[str]) -> int:
    """Run a worker.

    Args:
        arguments: The file descriptor of the socket that leads to the server.

    Returns:
        The exit code.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server says when to leave
    configure_logging()
    end = socket.socket(fileno=int(arguments[0]))
    end.set_inheritable(False)

    async def serve() -> None:
        await Worker(end).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
    sys.stdout.flush()
    os._exit(0)  # the server sees the end of the socket, and knows the rest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
