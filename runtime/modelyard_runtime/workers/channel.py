"""Messages between the server and one of its HTTP workers, over a socket that only they have.

A message is any picklable value. Arrays in it are not copied into the pickle but follow it as they
are; on the other side they lie in the one buffer that was received. Both ends are the same program.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD: Final = struct.Struct("!QI")
"""Bytes of the message without this head; number of parts, of which the pickle is the first."""
_SIZE: Final = struct.Struct("!Q")
_ALIGNMENT: Final = 64


class Channel(asyncio.Protocol):
    """One end.

    Args:
        on_message: Takes each message, in order.
        on_end: Told when the other end is gone.
    """

    def __init__(self, on_message: Callable[[Any], None], on_end: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport; called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)

    def send(self, message: object) -> None:
        """Send a message; nothing happens when the other end is gone.

        Args:
            message: Anything that pickles.
        """
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.writelines(packed(message))

    def close(self) -> None:
        """Send what is not sent, and hang up."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take bytes; called by the event loop."""
        received = self._received
        received += data
        while len(received) >= _HEAD.size:
            length, parts = _HEAD.unpack_from(received)
            end = _HEAD.size + length
            if len(received) < end:
                return
            # A copy: it stays writable, and belongs to the arrays in it alone.
            message = unpacked(received[_HEAD.size : end], parts)
            del received[:end]
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the other end is gone; called by the event loop."""
        del exc
        self._on_end()


def packed(message: object) -> list[bytes | memoryview]:
    """Write a message.

    Args:
        message: Anything that pickles.

    Returns:
        What is sent, piece by piece.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    parts: list[bytes | memoryview] = [head, *(buffer.raw() for buffer in buffers)]
    sizes = b"".join(_SIZE.pack(len(part)) for part in parts)
    pieces: list[bytes | memoryview] = []
    length = len(sizes)
    for part in parts:
        padding = -length % _ALIGNMENT
        pieces += [bytes(padding), part]
        length += padding + len(part)
    return [_HEAD.pack(length, len(parts)), sizes, *pieces]


def unpacked(data: bytearray, parts: int) -> Any:
    """Read a message.

    Args:
        data: What followed the head.
        parts: As in the head.

    Returns:
        The message; arrays in it are writable and lie in ``data``.
    """
    view = memoryview(data)
    at = parts * _SIZE.size
    found: list[memoryview] = []
    for number in range(parts):
        (size,) = _SIZE.unpack_from(data, number * _SIZE.size)
        at += -at % _ALIGNMENT
        found.append(view[at : at + size])
        at += size
    return pickle.loads(found[0], buffers=found[1:])  # noqa: S301 - from our own process
