"""Tensors as raw bytes, little-endian and row-major: the binary extension and gRPC.

References:
    Triton, "Binary Tensor Data Extension"; Open Inference Protocol, gRPC, "Raw Tensor Contents".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.errors import InvalidInputError, MalformedRequestError

if TYPE_CHECKING:
    from modelyard_runtime.engine.protocol import Array, TensorSpec

_LENGTH: Final = struct.Struct("<I")


def decode_raw(
    data: memoryview | bytes, shape: tuple[int, ...], dtype: np.dtype[Any], spec: TensorSpec
) -> Array:
    """Read one tensor.

    Args:
        data: Its bytes, all of them.
        shape: Its shape, checked.
        dtype: The dtype that the caller stated, checked.
        spec: The declared input.

    Returns:
        Writable C-contiguous array of the shape, in the declared dtype: one copy of ``data``.

    Raises:
        InvalidInputError: The bytes do not fill the shape.
        MalformedRequestError: The lengths in front of BYTES elements do not add up.
    """
    elements = 1
    for size in shape:
        elements *= size
    if dtype.kind == "O":
        return _decode_strings(data, shape, elements, spec)
    if len(data) != elements * dtype.itemsize:
        raise InvalidInputError(
            f"input {spec.name!r}: shape {list(shape)} takes {elements * dtype.itemsize} bytes, "
            f"got {len(data)}"
        )
    if dtype.kind == "b":  # any byte but 0 is true; numpy would keep the others as they are
        array: Array = np.frombuffer(data, np.uint8) != 0
    else:
        array = np.frombuffer(data, dtype)
    target = DTYPES.get(spec.datatype, dtype)
    # The bytes may lie at an odd address and are not writable: whoever computes gets a copy.
    return array.astype(target).reshape(shape)


def encode_raw(array: Array) -> bytes:
    """Write one tensor.

    Args:
        array: Any shape; a dtype of the protocol, or strings.

    Returns:
        Its bytes.
    """
    if array.dtype.kind not in "OUST":
        return array.tobytes()
    parts = []
    for value in array.reshape(-1).tolist():
        element = value if isinstance(value, bytes) else str(value).encode()
        parts += [_LENGTH.pack(len(element)), element]
    return b"".join(parts)


def _decode_strings(
    data: memoryview | bytes, shape: tuple[int, ...], elements: int, spec: TensorSpec
) -> Array:
    """Read BYTES: each element is preceded by its length."""
    if elements * _LENGTH.size > len(data):  # asked before anything is allocated
        raise InvalidInputError(
            f"input {spec.name!r}: shape {list(shape)} holds {elements} elements, "
            f"{len(data)} bytes cannot hold as many"
        )
    array: Array = np.empty(elements, np.object_)
    at = 0
    for index in range(elements):
        start = at + _LENGTH.size
        if start > len(data):
            raise MalformedRequestError(f"input {spec.name!r}: element {index} has no length")
        at = start + _LENGTH.unpack_from(data, at)[0]
        if at > len(data):
            raise MalformedRequestError(
                f"input {spec.name!r}: element {index} is longer than the tensor's bytes"
            )
        array[index] = bytes(data[start:at])
    if at != len(data):
        raise MalformedRequestError(
            f"input {spec.name!r}: {len(data) - at} bytes are left after {elements} elements"
        )
    return array.reshape(shape)
