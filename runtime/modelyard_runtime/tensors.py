"""JSON tensors ↔ numpy arrays, every shape and value checked before anything is allocated.

References:
    Open Inference Protocol, HTTP/REST, "Tensor Data".
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelyard_runtime.engine.protocol import ANY, DATATYPES, DTYPES
from modelyard_runtime.errors import InvalidInputError, NonFiniteOutputError

if TYPE_CHECKING:
    from modelyard_runtime.engine.protocol import Array, TensorSpec

_MAX_RANK: Final = 32
_MAX_ELEMENTS: Final = 2**62
_NUMBERS: Final = frozenset({int, float})
_TAKEN: Final = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": _NUMBERS,
    "O": frozenset({str}),
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
    dtype = _checked_dtype(tensor.get("datatype"), spec)
    shape, elements = _checked_shape(tensor.get("shape"), spec)
    data = tensor.get("data")
    if type(data) is not list:
        raise InvalidInputError(f"input {name!r}: 'data' must be an array")
    flat = data if not data or type(data[0]) is not list else _flatten(data, shape, name)
    if len(flat) != elements:
        raise InvalidInputError(
            f"input {name!r}: shape {list(shape)} holds {elements} values, 'data' has {len(flat)}"
        )
    if not _TAKEN[dtype.kind] >= set(map(type, flat)):
        raise InvalidInputError(f"input {name!r}: 'data' holds values that are not {_words(dtype)}")
    array = _to_array(flat, dtype, name)
    if spec.datatype not in {ANY, DATATYPES[dtype]}:
        array = array.astype(DTYPES[spec.datatype])
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
        data = [v.decode() if isinstance(v, bytes) else str(v) for v in array.reshape(-1).tolist()]
    else:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise NonFiniteOutputError(f"output {spec_name!r} holds NaN or infinity")
        data = np.ascontiguousarray(array).reshape(-1)
    return {"name": spec_name, "datatype": datatype, "shape": array.shape, "data": data}


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


def _checked_dtype(given: object, spec: TensorSpec) -> np.dtype[Any]:
    dtype = DTYPES.get(given) if isinstance(given, str) else None
    declared = spec.datatype
    if dtype is None:
        known = ", ".join(DTYPES)
        raise InvalidInputError(
            f"input {spec.name!r}: datatype must be one of {known}, got {str(given)[:40]!r}"
        )
    if declared in {given, ANY} or (spec.casts and dtype.kind in "iuf"):
        return dtype
    raise InvalidInputError(f"input {spec.name!r}: expected datatype {declared}, got {given}")


def _checked_shape(given: object, spec: TensorSpec) -> tuple[tuple[int, ...], int]:
    """Check a shape in Python's integers, which do not overflow, and count its elements."""
    if type(given) is not list or len(given) > _MAX_RANK:
        raise InvalidInputError(f"input {spec.name!r}: 'shape' must be an array of sizes")
    elements = 1
    for size in given:
        if type(size) is not int or size < 0:
            raise InvalidInputError(
                f"input {spec.name!r}: a size in 'shape' must be an integer of at least 0, "
                f"got {str(size)[:40]}"
            )
        elements *= size
    if elements > _MAX_ELEMENTS:
        raise InvalidInputError(f"input {spec.name!r}: 'shape' holds {elements} values")
    shape = tuple(given)
    declared = spec.shape
    if declared is not None and shape != declared:
        if len(shape) != len(declared):
            raise InvalidInputError(
                f"input {spec.name!r}: expected {len(declared)} dimensions {list(declared)}, "
                f"got {len(shape)} {given}"
            )
        for got, want in zip(shape, declared, strict=True):
            if want not in {-1, got}:
                raise InvalidInputError(
                    f"input {spec.name!r}: expected shape {list(declared)}, got {given}"
                )
    return shape, elements


def _flatten(data: list[Any], shape: tuple[int, ...], name: str) -> list[Any]:
    """Flatten nested data that has exactly the stated shape."""
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
                f"input {name!r}: nested 'data' does not have shape {list(shape)}"
            )
    return level


def _to_array(flat: list[Any], dtype: np.dtype[Any], name: str) -> Array:
    try:
        # Narrow floats overflow to infinity without an error; asked below.
        with np.errstate(over="ignore"):
            array: Array = np.array(flat, dtype=dtype)
    except (OverflowError, ValueError, TypeError):
        raise InvalidInputError(
            f"input {name!r}: 'data' holds values outside {DATATYPES[dtype]}"
        ) from None
    if dtype.kind == "f" and dtype.itemsize < 8 and not np.isfinite(array).all():  # noqa: PLR2004
        raise InvalidInputError(f"input {name!r}: 'data' holds values outside {DATATYPES[dtype]}")
    return array


def _words(dtype: np.dtype[Any]) -> str:
    return {"b": "booleans", "i": "integers", "u": "integers", "f": "numbers"}.get(
        dtype.kind, "strings"
    )
