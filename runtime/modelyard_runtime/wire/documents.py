"""JSON text → what it says, for the formats that are JSON as a whole."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import orjson

from modelyard_runtime.errors import InvalidInputError, MalformedRequestError

_B64: Final = "b64"


def decode_json(body: bytes) -> Any:
    """Read a JSON text.

    Args:
        body: UTF-8, at most 1024 levels deep.

    Returns:
        Its value.

    Raises:
        MalformedRequestError: It is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError(f"the body is not JSON: {error}") from None


def decode_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        body: As for ``decode_json``.

    Returns:
        Its members; of two with the same name, the last.

    Raises:
        MalformedRequestError: It is not JSON, or not an object.
    """
    document = decode_json(body)
    if type(document) is not dict:
        raise MalformedRequestError("the body must be a JSON object")
    return document


def is_base64(value: object) -> bool:
    """Tell whether a value stands for bytes.

    Args:
        value: A JSON value.

    Returns:
        Whether it is ``{"b64": ...}``.

    References:
        TensorFlow Serving, RESTful API, "Encoding binary values".
    """
    return type(value) is dict and value.keys() == {_B64}


def decode_base64(value: dict[str, Any], name: str) -> bytes:
    """Read the bytes that a value stands for.

    Args:
        value: ``{"b64": ...}``.
        name: The input's name, for messages.

    Returns:
        The bytes.

    Raises:
        InvalidInputError: It is not base64.
    """
    text = value[_B64]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidInputError(
            f"input {name!r}: 'b64' must be base64 text, got {str(text)[:40]!r}"
        ) from None


def encode_base64(value: bytes) -> dict[str, str]:
    """Write bytes as a value.

    Args:
        value: Any bytes.

    Returns:
        ``{"b64": ...}``.
    """
    return {_B64: base64.b64encode(value).decode("ascii")}
