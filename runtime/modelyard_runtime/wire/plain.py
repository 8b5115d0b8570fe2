"""Rows in JSON and plain text, as a person writes them ↔ arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import orjson

from modelyard_runtime.engine.protocol import ANY
from modelyard_runtime.errors import InvalidInputError
from modelyard_runtime.wire.documents import decode_json, is_base64
from modelyard_runtime.wire.rows import (
    decode_instances,
    decode_named,
    decode_values,
    encode_named,
)

if TYPE_CHECKING:
    from modelyard_runtime.engine.protocol import Array, Arrays, TensorSpec
    from modelyard_runtime.signature import Signature

_JSON: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
_WRAPPER: Final = "input"


def decode_plain(body: bytes, signature: Signature) -> tuple[Arrays, bool]:
    """Read one row or several.

    Args:
        body: JSON: a list of rows or a bare row; where the model takes several inputs, an object by
            name or a list of them. ``{"input": rows}`` is the same as ``rows``.
        signature: What the model takes.

    Returns:
        One array per input; and whether it was a bare row.

    Raises:
        MalformedRequestError: It is not JSON.
        InvalidInputError: It does not fit the model.
    """
    value = decode_json(body)
    names = [spec.name for spec in signature.inputs]
    if type(value) is dict and value.keys() == {_WRAPPER} and _WRAPPER not in names:
        value = value[_WRAPPER]
    if _is_named(value):
        arrays = decode_named(value, signature, pad=True)
        return arrays, _depth(value[names[0]]) < arrays[0].ndim
    if type(value) is list and value and _is_named(value[0]):
        return decode_instances(value, signature), False
    if len(names) != 1:
        listed = ", ".join(map(repr, names))
        raise InvalidInputError(f"the model takes {len(names)} inputs, name them: {listed}")
    array = decode_values(value, signature.inputs[0], pad=True)
    return (array,), _depth(value) < array.ndim


def decode_text(body: bytes, spec: TensorSpec) -> Array:
    """Take the body for the one string that a model works on.

    Args:
        body: UTF-8.
        spec: The declared input, of datatype BYTES.

    Returns:
        Object array of one ``bytes``, of the declared rank.

    Raises:
        InvalidInputError: The input takes no text, more than one string, or the body is not UTF-8.
    """
    shape = (1,) if spec.shape is None else tuple(1 if s == -1 else s for s in spec.shape)
    if spec.datatype not in {"BYTES", ANY} or math.prod(shape) != 1:
        raise InvalidInputError(
            f"input {spec.name!r} takes no single text: it is {spec.datatype} {list(shape)}"
        )
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"input {spec.name!r}: the text is not UTF-8: {error}") from None
    text: Array = np.empty(1, np.object_)
    text[0] = body
    return text.reshape(shape)


def encode_plain(signature: Signature, outputs: Arrays, *, bare: bool) -> bytes:
    """Write the answer.

    Args:
        signature: What the model gives.
        outputs: One per output.
        bare: Whether a row is to be answered, not a list of one.

    Returns:
        A JSON object by output's name, and a line's end, for terminals.

    Raises:
        NonFiniteOutputError: An output holds NaN or infinity.
    """
    if bare and signature.batched:
        outputs = tuple(
            array.reshape(array.shape[1:]) if array.shape[:1] == (1,) else array
            for array in outputs
        )
    return orjson.dumps(encode_named(signature.outputs, outputs), option=_JSON)


def _is_named(value: object) -> bool:
    return type(value) is dict and not is_base64(value)


def _depth(value: object) -> int:
    depth = 0
    while type(value) is list:
        depth += 1
        value = value[0] if value else None
    return depth
