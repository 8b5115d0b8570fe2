"""Arrays as NumPy's own files, one to a body.

References:
    NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays".
"""

from __future__ import annotations

import io
import struct
import tokenize
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib import format as npy

from modelyard_runtime.engine.protocol import ANY, DATATYPES, DTYPES
from modelyard_runtime.errors import InvalidInputError, MalformedRequestError
from modelyard_runtime.signature import checked_shape

if TYPE_CHECKING:
    from modelyard_runtime.engine.protocol import Array, TensorSpec

_MAX_HEADER: Final = 4096
_BROKEN: Final = (
    *(ValueError, SyntaxError, TypeError, RecursionError, MemoryError),
    *(struct.error, tokenize.TokenError, UserWarning),
)
"""What reading a header raises that is none: it is an expression, perhaps of Python 2, or too deep."""


def decode_npy(body: bytes, spec: TensorSpec) -> Array:
    """Read an array.

    Args:
        body: A ``.npy`` file, version 1 or 2.
        spec: The declared input.

    Returns:
        Writable C-contiguous array in the declared datatype. Other numbers are converted where no
        integer overflows and no float becomes infinite.

    Raises:
        MalformedRequestError: It is no such file, or holds more or fewer bytes than its header says.
        InvalidInputError: The array does not fit the input; it holds Python objects.
    """
    shape, fortran, dtype, data = _parsed(body, spec)
    checked, elements = checked_shape(list(shape), spec)
    if len(data) != elements * dtype.itemsize:
        raise MalformedRequestError(
            f"the header tells of {elements * dtype.itemsize} bytes, {len(data)} follow"
        )
    array: Array = np.frombuffer(data, dtype).reshape(checked, order="F" if fortran else "C")
    return _converted(array, spec)


def encode_npy(array: Array) -> bytes:
    """Write an array.

    Args:
        array: Any shape; a dtype of the protocol, or strings.

    Returns:
        A ``.npy`` file. Strings are of fixed length, and BF16, which the format cannot say, is FP32.
    """
    if array.dtype.kind in "OUT":
        words = [v if isinstance(v, bytes) else str(v).encode() for v in array.reshape(-1).tolist()]
        array = np.array(words, np.bytes_).reshape(array.shape)
    elif array.dtype.kind == "V":
        array = array.astype(np.float32)
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _parsed(
    body: bytes, spec: TensorSpec
) -> tuple[tuple[int, ...], bool, np.dtype[Any], memoryview]:
    """Read the header; nothing of the size that it states is allocated."""
    file = io.BytesIO(body)
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise MalformedRequestError(f"npy version {version} is not read here, send 1.0 or 2.0")
        shape, fortran, dtype = read(file, max_header_size=_MAX_HEADER)
    except _BROKEN as error:
        raise MalformedRequestError(f"the body is no npy file: {str(error)[:200]}") from None
    if dtype.hasobject:
        raise InvalidInputError(
            f"input {spec.name!r}: arrays of Python objects are not read, send bytes or numbers"
        )
    if not dtype.itemsize:
        raise InvalidInputError(f"input {spec.name!r}: elements of no bytes are not read")
    return shape, fortran, dtype, memoryview(body)[file.tell() :]


def _converted(array: Array, spec: TensorSpec) -> Array:
    if array.dtype.kind in "SU" and spec.datatype in {"BYTES", ANY}:
        return _words(array, spec)
    dtype = array.dtype.newbyteorder("=")
    target = dtype if spec.datatype == ANY else DTYPES[spec.datatype]
    widens = {"f": "fV", "i": "iufV", "u": "iufV"}.get(dtype.kind, "")
    if (
        dtype not in DATATYPES
        or dtype.kind == "O"
        or (target != dtype and target.kind not in widens)
    ):
        raise InvalidInputError(
            f"input {spec.name!r}: expected datatype {spec.datatype}, got {array.dtype.name}"
        )
    if dtype.kind == "b":  # any byte but 0 is true; numpy would keep the others as they are
        return np.ascontiguousarray(array.view(np.uint8) != 0)
    with np.errstate(over="ignore"):
        converted = array.astype(target, order="C")
    if not _same(array, converted):
        raise InvalidInputError(f"input {spec.name!r} holds values outside {spec.datatype}")
    return converted


def _same(array: Array, converted: Array) -> bool:
    """Tell whether a conversion kept every integer, and every finite number finite."""
    if array.dtype == converted.dtype:
        return True
    if converted.dtype.kind in "iu":
        return np.array_equal(array, converted)
    return bool((np.isfinite(converted) | ~np.isfinite(array)).all())


def _words(array: Array, spec: TensorSpec) -> Array:
    words: Array = np.empty(array.size, np.object_)
    try:
        words[:] = [
            value if isinstance(value, bytes) else value.encode()
            for value in array.reshape(-1).tolist()
        ]
    except (UnicodeEncodeError, ValueError):
        raise InvalidInputError(f"input {spec.name!r} holds text that is not Unicode") from None
    return words.reshape(array.shape)
