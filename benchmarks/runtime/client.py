"""A lean HTTP/1.1 client for one connection: what a load generator in Python can afford."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from processes import Request


class Answer(NamedTuple):
    """What came back.

    Attributes:
        status: The HTTP status.
        body: Its bytes.
    """

    status: int
    body: bytes


class Connection:
    """One keep-alive connection, opened anew where the server closed it.

    Args:
        address: ``http://host:port``.
    """

    def __init__(self, address: str) -> None:
        self._host, _, port = address.removeprefix("http://").partition(":")
        self._port = int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Request) -> Answer:
        """Send a request and read its answer.

        Args:
            request: What is sent.

        Returns:
            The answer.

        Raises:
            OSError: The connection broke.
            asyncio.IncompleteReadError: It ended within the answer.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(head_of(request) + request.body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        body = await reader.readexactly(size)
        if b"connection: close" in head:
            self.close()
        return Answer(int(head.split(b" ", 2)[1]), body)

    async def vanish(self, request: Request, share: float) -> None:
        """Send a part of a request and hang up.

        Args:
            request: What is begun.
            share: How much of it is sent; 1 leaves before the answer.
        """
        _, writer = await asyncio.open_connection(self._host, self._port)
        sent = head_of(request) + request.body
        writer.write(sent[: int(len(sent) * share)])
        await writer.drain()
        writer.transport.abort()

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def head_of(request: Request) -> bytes:
    """Write a request's head."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return (
        f"POST {request.path} HTTP/1.1\r\nhost: soak\r\n{headers}"
        f"content-length: {len(request.body)}\r\n\r\n"
    ).encode()
