"""JSON tensors ↔ numpy arrays.

References:
    Open Inference Protocol, HTTP/REST, "Tensor Data".
"""

from __future__ import annotations

from array import array as packed_array
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from modelyard_runtime.engine.protocol import ANY, DATATYPES, DTYPES
from modelyard_runtime.errors import InvalidInputError, NonFiniteOutputError
from modelyard_runtime.signature import checked_dtype, checked_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelyard_runtime.engine.protocol import Array, Arrays, TensorSpec

_NUMBERS: Final = frozenset({int, float})
_FLOATS: Final[dict[np.dtype[Any], Literal["f", "d"]]] = {
    np.dtype(np.float32): "f",
    np.dtype(np.float64): "d",
}
"""What the standard library's arrays are filled with in half of numpy's time."""
_TAKEN: Final = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": _NUMBERS,
    "V": _NUMBERS,  # bfloat16, which numpy knows by name only
    "O": frozenset({str, bytes}),
}
"""numpy dtype kind → the JSON types that its elements may have."""


def decode_tensor(tensor: dict[str, Any], spec: TensorSpec) -> Array:
    """Turn one JSON tensor into the array that the model takes.

    Args:
        tensor: ``datatype``, ``shape`` and ``data``, the latter flat in row-major order or nested
            like the shape.
        spec: The input that the model declares.

    Returns:
        Writable C-contiguous array of the tensor's shape and the declared dtype.

    Raises:
        InvalidInputError: The datatype or shape is not the declared one, the data does not fill the
            shape, or a value is not of the datatype.

    References:
        Open Inference Protocol, HTTP/REST, "Request Input".
    """
    name = spec.name
    dtype = checked_dtype(tensor.get("datatype"), spec)
    shape, elements = checked_shape(tensor.get("shape"), spec)
    data = tensor.get("data")
    if type(data) is not list:
        raise InvalidInputError(f"input {name!r}: 'data' must be an array")
    flat = data if not data or type(data[0]) is not list else flattened(data, shape, name)
    if len(flat) != elements:
        raise InvalidInputError(
            f"input {name!r}: shape {list(shape)} holds {elements} values, 'data' has {len(flat)}"
        )
    return array_of(flat, shape, dtype, spec)


def array_of(
    flat: list[Any], shape: tuple[int, ...], dtype: np.dtype[Any], spec: TensorSpec
) -> Array:
    """Turn JSON values into an array.

    Args:
        flat: As many values as the shape holds, in row-major order; ``bytes`` are taken for BYTES.
        shape: Its shape, checked.
        dtype: The dtype in which the values are to be read, checked.
        spec: The declared input.

    Returns:
        Writable C-contiguous array of the shape and the declared dtype.

    Raises:
        InvalidInputError: A value is not of the datatype.
    """
    name = spec.name
    if not _TAKEN[dtype.kind] >= set(map(type, flat)):
        raise InvalidInputError(f"input {name!r} holds values that are not {_words(dtype)}")
    if dtype.kind == "O":
        flat = [text if type(text) is bytes else text.encode() for text in flat]
    array = _to_array(flat, dtype, name)
    if spec.datatype not in {ANY, DATATYPES[dtype]}:
        with np.errstate(over="ignore"):
            array = array.astype(DTYPES[spec.datatype])
        if array.dtype.kind in "fV" and not _finite(array):
            raise InvalidInputError(f"input {name!r} holds values outside {spec.datatype}")
    return array.reshape(shape)


def encode_tensor(spec_name: str, array: Array) -> dict[str, Any]:
    """Turn one output array into a JSON tensor.

    Args:
        spec_name: The output's name.
        array: Any shape; a dtype of ``DTYPES``, or strings.

    Returns:
        ``name``, ``datatype``, ``shape`` and flat ``data``, for orjson with numpy support.

    Raises:
        NonFiniteOutputError: A value is NaN or infinite, which JSON cannot say.
    """
    datatype = datatype_of(array)
    data: Any
    if datatype == "BYTES":
        data = [_text(value, spec_name) for value in array.reshape(-1).tolist()]
    else:
        if array.dtype.kind in "fV":
            if not _finite(array):
                raise NonFiniteOutputError(f"output {spec_name!r} holds NaN or infinity")
            if array.dtype.kind == "V":
                array = array.astype(np.float32)
        data = np.ascontiguousarray(array).reshape(-1)
    return {"name": spec_name, "datatype": datatype, "shape": array.shape, "data": data}


def as_text(array: Array) -> Array:
    """Turn BYTES into text, for models that work on words.

    Args:
        array: Object array of ``bytes``.

    Returns:
        Object array of ``str``, of the same shape.

    Raises:
        InvalidInputError: An element is not UTF-8.
    """
    try:
        words = [v.decode() if isinstance(v, bytes) else str(v) for v in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"the model takes text, and a value is not UTF-8: {error}"
        ) from None
    text: Array = np.empty(len(words), dtype=np.object_)
    text[:] = words
    return text.reshape(array.shape)


def datatype_of(array: Array) -> str:
    """Name an array's datatype in the protocol's words.

    Args:
        array: Any array that a model gave.

    Returns:
        A key of ``DTYPES``; every kind of string is ``BYTES``.

    Raises:
        TypeError: The protocol has no word for the dtype, for instance complex numbers.
    """
    if array.dtype.kind in "UST":
        return "BYTES"
    try:
        return DATATYPES[array.dtype]
    except KeyError:
        raise TypeError(f"the protocol has no datatype for {array.dtype}") from None


def flattened(data: list[Any], shape: tuple[int, ...], name: str) -> list[Any]:
    """Flatten nested values.

    Args:
        data: The values.
        shape: The shape that they must have.
        name: The input's name, for messages.

    Returns:
        The values in row-major order.

    Raises:
        InvalidInputError: They are nested otherwise.
    """
    level = data
    for axis, size in enumerate(shape):
        last = axis == len(shape) - 1
        if axis == 0:
            fits = len(level) == size
        else:
            fits = all(type(row) is list and len(row) == size for row in level)
            level = list(chain.from_iterable(level)) if fits else level
        if not fits or (last and any(type(value) is list for value in level)):
            raise InvalidInputError(
                f"input {name!r}: the nested values do not have shape {list(shape)}"
            )
    return level


def not_finite(specs: Sequence[TensorSpec], outputs: Arrays) -> str | None:
    """Look for NaN and infinity.

    Args:
        specs: What the model declares to give.
        outputs: What it gave, in the order of ``specs``.

    Returns:
        The name of the first output that holds one; None when none does.
    """
    for spec, array in zip(specs, outputs, strict=True):
        if array.dtype.kind in "fV" and not _finite(array):
            return spec.name
    return None


def _to_array(flat: list[Any], dtype: np.dtype[Any], name: str) -> Array:
    array: Array
    try:
        if (code := _FLOATS.get(dtype)) is not None:
            array = np.frombuffer(packed_array(code, flat), dtype)
        else:
            # Narrow floats overflow to infinity without an error; asked below.
            with np.errstate(over="ignore"):
                array = np.array(flat, dtype=dtype)
    except (OverflowError, ValueError, TypeError):
        raise InvalidInputError(f"input {name!r} holds values outside {DATATYPES[dtype]}") from None
    if dtype.kind in "fV" and dtype.itemsize < 8 and not _finite(array):  # noqa: PLR2004
        raise InvalidInputError(f"input {name!r} holds values outside {DATATYPES[dtype]}")
    return array


def _text(value: object, output: str) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise NonFiniteOutputError(
            f"output {output!r} holds bytes that are not UTF-8, ask for binary data"
        ) from None


def _finite(array: Array) -> bool:
    # Counting is one C call; ``all()`` goes through Python, which small arrays notice.
    return int(np.count_nonzero(np.isfinite(array))) == array.size


def _words(dtype: np.dtype[Any]) -> str:
    return {"b": "booleans", "i": "integers", "u": "integers", "f": "numbers", "V": "numbers"}.get(
        dtype.kind, "strings"
    )
