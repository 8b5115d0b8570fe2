"""The least that an ASGI server can do with a request: read it, answer a constant."""

from __future__ import annotations

from typing import Any

_BODY = b"x" * 200
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"200")]


async def app(_scope: Any, receive: Any, send: Any) -> None:
    """Answer one request."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})
