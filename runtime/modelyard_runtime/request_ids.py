"""A name for every request: the caller's, or one of ours."""

from __future__ import annotations

import re
from itertools import count
from secrets import token_hex
from typing import Final

from modelyard_runtime.errors import MalformedRequestError

_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""What is echoed: nothing that could split a header, break a log line or fill it."""
_MAX_ID: Final = 1024
_PREFIX: Final = token_hex(6)
_numbers: Final = count(1)


def accepted_request_id(given: str | None) -> str:
    """Choose the id of a request.

    Args:
        given: What the caller calls it, if anything.

    Returns:
        That, where it is fit to be echoed; else one that no other request of any process has.
    """
    if given is not None and _ACCEPTED.fullmatch(given):
        return given
    return f"{_PREFIX}-{next(_numbers):x}"


def checked_id(given: object) -> str | None:
    """Check the ``id`` that a request of the protocol carries.

    Args:
        given: As the caller wrote it; None when there is none.

    Returns:
        The same.

    Raises:
        MalformedRequestError: It is no string, or a very long one.
    """
    if given is None or (isinstance(given, str) and len(given) <= _MAX_ID):
        return given
    raise MalformedRequestError(f"'id' must be a string of at most {_MAX_ID} characters")
