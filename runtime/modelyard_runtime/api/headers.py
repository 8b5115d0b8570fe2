"""Headers as an ASGI server gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_DIGITS: Final = 18


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


def lookup(headers: list[tuple[bytes, bytes]]) -> Callable[[str], str | None]:
    """Give the parts that know no HTTP a way to look headers up.

    Args:
        headers: As the server gives them.

    Returns:
        Takes a lower-case name, gives the value; None when it is not there.
    """

    def find(name: str) -> str | None:
        value = header_of(headers, name.encode("ascii"))
        return None if value is None else value.decode("latin-1")

    return find


def number_of(value: bytes) -> int | None:
    """Read a whole number.

    Args:
        value: A header's value.

    Returns:
        The number; None: it is none, or has more digits than any size or time.
    """
    return int(value) if value.isdigit() and len(value) <= _MAX_DIGITS else None
