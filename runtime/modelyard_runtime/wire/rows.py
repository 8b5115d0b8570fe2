"""Values in plain JSON ↔ arrays, where the nesting tells the shape and the model the datatype.

V1, ``/predict`` and ``generate`` are written so.

References:
    TensorFlow Serving, RESTful API, "Predict API": row format and column format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelyard_runtime.engine.protocol import ANY, DTYPES
from modelyard_runtime.errors import InvalidInputError, MalformedRequestError, NonFiniteOutputError
from modelyard_runtime.inference import Question
from modelyard_runtime.signature import checked_shape
from modelyard_runtime.tensors import array_of, datatype_of, flattened
from modelyard_runtime.wire.documents import decode_base64, encode_base64, is_base64

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelyard_runtime.engine.protocol import Array, Arrays, TensorSpec
    from modelyard_runtime.signature import Signature

_MAX_DEPTH: Final = 32
_WORDS: Final[Mapping[frozenset[type], str]] = {
    frozenset({bool}): "BOOL",
    frozenset({int}): "INT64",
    frozenset({float}): "FP64",
    frozenset({int, float}): "FP64",
    frozenset({str}): "BYTES",
    frozenset({bytes}): "BYTES",
    frozenset({str, bytes}): "BYTES",
}
"""Types of JSON values → the datatype they are read in, where the model declares none."""


def decode_values(value: Any, spec: TensorSpec, *, pad: bool = False) -> Array:
    """Turn one value, nested or not, into the array of an input.

    Args:
        value: A scalar, or a list nested like the tensor.
        spec: The declared input.
        pad: Whether leading axes that are not there are taken to be of size 1, so that one row
            stands for a batch of one.

    Returns:
        Writable C-contiguous array in the declared datatype, or in the values' own.

    Raises:
        InvalidInputError: It is ragged, of another shape, or not of the datatype.
    """
    shape = _shape_of(value, spec)
    flat = flattened(value, shape, spec.name) if shape else [value]
    if dict in map(type, flat):
        flat = [decode_base64(each, spec.name) if is_base64(each) else each for each in flat]
    if pad:
        rank = 1 if spec.shape is None else len(spec.shape)
        shape = (1,) * (rank - len(shape)) + shape
    checked_shape(list(shape), spec)
    datatype = spec.datatype
    if datatype == ANY:
        datatype = _WORDS.get(frozenset(map(type, flat)), "")
        if not datatype:
            raise InvalidInputError(
                f"input {spec.name!r} must hold numbers, booleans or strings, of one kind"
            )
    return array_of(flat, shape, DTYPES[datatype], spec)


def decode_instances(instances: object, signature: Signature) -> Arrays:
    """Read the row format.

    Args:
        instances: A list of rows: of values where the model takes one input, else of objects that
            hold a value for each input.
        signature: What the model takes.

    Returns:
        One array per input; the rows are their first axis.

    Raises:
        MalformedRequestError: It is no list.
        InvalidInputError: There are no rows, or a row does not fit the model.
    """
    if type(instances) is not list:
        raise MalformedRequestError("'instances' must be an array of rows")
    if not instances:
        raise InvalidInputError("'instances' has no rows")
    if not _is_named(instances[0]):
        return _only_input(instances, signature)
    names = instances[0].keys()
    for at, row in enumerate(instances):
        if not _is_named(row) or row.keys() != names:
            raise InvalidInputError(f"row {at} does not have the same inputs as row 0")
    return decode_named({name: [row[name] for row in instances] for name in names}, signature)


def decode_columns(inputs: object, signature: Signature) -> Arrays:
    """Read the column format.

    Args:
        inputs: An object that holds a tensor for each input; or the tensor of the only one.
        signature: What the model takes.

    Returns:
        One array per input.

    Raises:
        InvalidInputError: A tensor does not fit the model, or an input is missing.
    """
    if _is_named(inputs):
        return decode_named(inputs, signature)
    return _only_input(inputs, signature)


def decode_named(values: Any, signature: Signature, *, pad: bool = False) -> Arrays:
    """Read one value for each input.

    Args:
        values: Name → value.
        signature: What the model takes.
        pad: As for ``decode_values``.

    Returns:
        One array per input.

    Raises:
        InvalidInputError: A value does not fit, or an input is unknown or missing.
    """
    found: dict[int, Array] = {}
    for name, value in values.items():
        at, spec = signature.input(name, found)
        found[at] = decode_values(value, spec, pad=pad)
    return signature.assemble(found)


def question_of(
    arrays: Arrays,
    signature: Signature,
    *,
    request_id: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Question:
    """Ask for every output.

    Args:
        arrays: One per input.
        signature: What the model takes and gives.
        request_id: The caller's ``id``.
        parameters: The request's parameters.

    Returns:
        The question.

    Raises:
        InvalidInputError: The inputs disagree on the number of rows.
    """
    return Question(
        request_id,
        arrays,
        signature.all_outputs,
        signature.key(arrays),
        signature.rows(arrays),
        parameters or {},
    )


def encode_values(name: str, array: Array) -> Any:
    """Turn one output into nested values.

    Args:
        name: The output's name. What is called ``..._bytes`` holds bytes, not text.
        array: Any shape.

    Returns:
        An array or nested lists, for orjson with numpy support. Bytes are ``{"b64": ...}``.

    Raises:
        NonFiniteOutputError: A value is NaN or infinite, which JSON cannot say.
    """
    if datatype_of(array) == "BYTES":
        words: Array = np.empty(array.size, np.object_)
        binary = name.endswith("_bytes")
        words[:] = [_word(value, binary=binary) for value in array.reshape(-1).tolist()]
        return words.reshape(array.shape).tolist()
    if array.dtype.kind in "fV" and not np.isfinite(array).all():
        raise NonFiniteOutputError(f"output {name!r} holds NaN or infinity")
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    return np.ascontiguousarray(array) if array.ndim else array[()]


def encode_named(specs: Sequence[TensorSpec], outputs: Arrays) -> dict[str, Any]:
    """Turn the answer into nested values.

    Args:
        specs: The declared outputs.
        outputs: One per output.

    Returns:
        Name → what ``encode_values`` gives.

    Raises:
        NonFiniteOutputError: As there.
    """
    return {
        spec.name: encode_values(spec.name, array)
        for spec, array in zip(specs, outputs, strict=True)
    }


def _shape_of(value: object, spec: TensorSpec) -> tuple[int, ...]:
    """Read the shape off the first element of each level."""
    shape: list[int] = []
    while type(value) is list:
        shape.append(len(value))
        if len(shape) > _MAX_DEPTH:
            raise InvalidInputError(f"input {spec.name!r} is nested over {_MAX_DEPTH} levels deep")
        value = value[0] if value else None
    return tuple(shape)


def _is_named(value: object) -> bool:
    return type(value) is dict and not is_base64(value)


def _only_input(value: object, signature: Signature) -> Arrays:
    if len(signature.inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in signature.inputs)
        raise InvalidInputError(
            f"the model takes {len(signature.inputs)} inputs, name them: {names}"
        )
    return (decode_values(value, signature.inputs[0]),)


def _word(value: object, *, binary: bool) -> Any:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return encode_base64(value) if binary else value.decode()
    except UnicodeDecodeError:  # no text, whatever its name
        return encode_base64(value)
