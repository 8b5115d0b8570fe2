"""``Content-Encoding`` both ways, never larger in memory than the limit allows."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from modelyard_runtime.errors import MalformedRequestError, TooLargeError, UnsupportedMediaError

_WINDOW: Final = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_OFF_LOOP_BYTES: Final = 64 * 1024
"""Bodies from here on are (de)compressed in a thread; zlib lets go of the interpreter."""
_FASTEST: Final = 1


async def decompressed(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Undo a request's content encoding.

    Args:
        body: As it arrived.
        encoding: The header's value.
        limit: Most bytes that may come out.

    Returns:
        The body.

    Raises:
        UnsupportedMediaError: The encoding is not spoken.
        MalformedRequestError: The body is not encoded so.
        TooLargeError: More than ``limit`` comes out; no more than that has been allocated.
    """
    encoding = encoding.strip().lower()
    if encoding in {b"", b"identity"}:
        return body
    if encoding not in _WINDOW:
        raise UnsupportedMediaError(
            f"content-encoding {encoding[:40].decode('latin-1')!r} is not spoken here, "
            "send gzip or deflate"
        )
    if len(body) < _OFF_LOOP_BYTES:
        return _inflate(body, encoding, limit)
    return await asyncio.to_thread(_inflate, body, encoding, limit)


async def compressed(body: bytes, accepted: bytes) -> tuple[bytes, bytes | None]:
    """Encode an answer if the caller asks for it.

    HTTP libraries list every encoding they know out of habit, and floats hardly shrink: only a
    caller that names a single one, as ``tritonclient`` does, is taken to mean it.

    Args:
        body: The answer.
        accepted: The header ``Accept-Encoding``.

    Returns:
        The body, and the encoding; None when it is unchanged.
    """
    encoding = accepted.strip().lower()
    if encoding not in _WINDOW:
        return body, None
    if len(body) < _OFF_LOOP_BYTES:
        return _deflate(body, encoding), encoding
    return await asyncio.to_thread(_deflate, body, encoding), encoding


def _inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(_WINDOW[encoding])
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        name = encoding.decode()
        raise MalformedRequestError(f"the body is not {name} data: {error}") from None
    if len(plain) > limit:
        raise TooLargeError(f"the decompressed body is larger than {limit} bytes")
    if not stream.eof or stream.unused_data:
        raise MalformedRequestError("the compressed body is cut off, or goes on after its end")
    return plain


def _deflate(body: bytes, encoding: bytes) -> bytes:
    stream = zlib.compressobj(_FASTEST, zlib.DEFLATED, _WINDOW[encoding])
    return stream.compress(body) + stream.flush()
