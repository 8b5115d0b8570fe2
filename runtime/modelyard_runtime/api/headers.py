"""Headers as an ASGI server gives them."""

from __future__ import annotations


def header_of(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Look a header up.

    Args:
        headers: As the server gives them: lower-case names.
        name: In lower case.

    Returns:
        Its value; None when it is not there.
    """
    for key, value in headers:
        if key == name:
            return value
    return None
