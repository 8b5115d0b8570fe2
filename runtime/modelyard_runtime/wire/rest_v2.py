"""Open Inference Protocol V2 over REST: bodies ↔ questions and arrays.

References:
    Open Inference Protocol, HTTP/REST, "Inference"; Triton, "Binary Tensor Data Extension".
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import orjson

from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.errors import InvalidInputError, MalformedRequestError, UnsupportedMediaError
from modelyard_runtime.inference import Question
from modelyard_runtime.request_ids import checked_id
from modelyard_runtime.signature import checked_dtype, checked_shape
from modelyard_runtime.tensors import datatype_of, decode_tensor, encode_tensor
from modelyard_runtime.wire.classification import classify
from modelyard_runtime.wire.raw import decode_raw, encode_raw

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.engine.protocol import Array, Arrays, TensorSpec
    from modelyard_runtime.signature import Signature

_JSON: Final = orjson.OPT_SERIALIZE_NUMPY
_PARAMETER_TYPES: Final = frozenset({str, int, float, bool})
_NO_PARAMETERS: Final[Mapping[str, Any]] = {}


class WantedOutput(NamedTuple):
    """How one output is to be written.

    Attributes:
        at: Its position.
        binary: As raw bytes behind the JSON, not inside it.
        classes: How many of the highest classes instead of the values; 0 for the values.
    """

    at: int
    binary: bool
    classes: int


class RestQuestion(NamedTuple):
    """A question and how it is to be answered.

    Attributes:
        question: What the model is asked.
        outputs: How each wanted output is to be written.
    """

    question: Question
    outputs: tuple[WantedOutput, ...]


def decode_request(
    body: bytes, signature: Signature, header_length: int | None = None
) -> RestQuestion:
    """Parse and check a request against what the model declares.

    Args:
        body: A JSON inference request, binary tensors behind it.
        signature: What the model takes and gives.
        header_length: Bytes of JSON (``Inference-Header-Content-Length``); None: all of it; 0: none,
            the body is the model's only input.

    Returns:
        The request, ready for the model.

    Raises:
        MalformedRequestError: Not JSON, not an inference request, or sizes do not add up.
        InvalidInputError: A tensor does not fit the model.
        UnsupportedMediaError: It asks for an extension that is not spoken.
    """
    if header_length == 0:
        return _decode_single(body, signature)
    text, tail = body, memoryview(b"")
    if header_length is not None:
        if header_length > len(body):
            raise MalformedRequestError(
                f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes"
            )
        text, tail = body[:header_length], memoryview(body)[header_length:]
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError(f"the body is not JSON: {error}") from None
    if type(document) is not dict:
        raise MalformedRequestError("the body must be a JSON object")
    request_id = checked_id(document.get("id"))
    parameters = _checked_parameters(document, "the request")
    arrays = _decode_inputs(document.get("inputs"), tail, signature)
    binary = _flag(parameters, "binary_data_output", "request")
    outputs = _decode_outputs(document.get("outputs"), signature, binary=binary)
    question = Question(
        request_id,
        arrays,
        tuple([output.at for output in outputs]),
        signature.key(arrays),
        signature.rows(arrays),
        parameters,
    )
    return RestQuestion(question, outputs)


class Answering(Protocol):
    """What encoding must know of the model that answered; a ``ServedModel`` is one."""

    name: str
    version: str
    signature: Signature

    @property
    def metrics(self) -> CountsOutputs:
        """Where outputs that are not finite are counted."""


class CountsOutputs(Protocol):
    """Counts answers with NaN or infinity in them."""

    def invalid_output(self) -> None:
        """Count one."""


def encode_answer(served: Answering, asked: RestQuestion, outputs: Arrays) -> tuple[bytes, int]:
    """Write the answer to one request.

    Args:
        served: The model that answered.
        asked: The request.
        outputs: What the model gave for it.

    Returns:
        The body, and the bytes of JSON at its front; 0 when it is JSON as a whole.

    Raises:
        NonFiniteOutputError: An output that is wanted as JSON holds NaN or infinity.
    """
    question, wanted = asked
    document: dict[str, Any] = {"model_name": served.name, "model_version": served.version}
    if question.request_id is not None:
        document["id"] = question.request_id
    tails: list[bytes] = []
    tensors = document["outputs"] = []
    signature = served.signature
    for at, binary, classes in wanted:
        spec, array = signature.outputs[at], outputs[at]
        name = spec.name
        if classes:
            array = classify(array, classes, spec, batched=signature.answers_rows)
        if not binary:
            tensors.append(encode_tensor(name, array))
            continue
        if array.dtype.kind in "fV" and not np.isfinite(array).all():
            served.metrics.invalid_output()  # binary data can say it; a canary's judge must know
        raw = encode_raw(array)
        tails.append(raw)
        tensors.append(
            {
                "name": name,
                "datatype": datatype_of(array),
                "shape": array.shape,
                "parameters": {"binary_data_size": len(raw)},
            }
        )
    text = orjson.dumps(document, option=_JSON)
    if not tails:
        return text, 0
    return b"".join([text, *tails]), len(text)


def _decode_single(body: bytes, signature: Signature) -> RestQuestion:
    """Take the whole body as the only input; its length tells the one size that is open."""
    if len(signature.inputs) != 1:
        raise InvalidInputError(f"a raw body is one input, the model takes {len(signature.inputs)}")
    spec = signature.inputs[0]
    dtype = DTYPES.get(spec.datatype)
    if dtype is None or spec.shape is None:
        raise InvalidInputError(
            f"input {spec.name!r} declares no datatype and shape, which a raw body needs"
        )
    array = decode_raw(body, _open_shape(body, dtype, spec), dtype, spec)
    arrays = (array,)
    question = Question(
        None, arrays, signature.all_outputs, signature.key(arrays), signature.rows(arrays)
    )
    return RestQuestion(question, _all_outputs(len(signature.outputs), True))


def _open_shape(body: bytes, dtype: np.dtype[Any], spec: TensorSpec) -> tuple[int, ...]:
    shape = spec.shape or ()
    if dtype.kind == "O":
        return tuple(1 if size == -1 else size for size in shape)
    if shape.count(-1) > 1:
        shape = (1, *shape[1:])
    known = dtype.itemsize
    for size in shape:
        known *= size if size != -1 else 1
    if -1 not in shape or not known:
        return tuple(max(size, 0) for size in shape)
    return tuple(len(body) // known if size == -1 else size for size in shape)


def _decode_inputs(tensors: object, tail: memoryview, signature: Signature) -> Arrays:
    if type(tensors) is not list:
        raise MalformedRequestError("'inputs' must be an array of tensors")
    found: dict[int, Any] = {}
    used = 0
    for tensor in tensors:
        at, spec = signature.input(tensor.get("name") if type(tensor) is dict else None, found)
        size = None
        if "parameters" in tensor:
            size = _checked_parameters(tensor, f"input {spec.name!r}").get("binary_data_size")
        if size is None:
            found[at] = decode_tensor(tensor, spec)
            continue
        if type(size) is not int or not 0 <= size <= len(tail) - used:
            raise MalformedRequestError(
                f"input {spec.name!r}: 'binary_data_size' is {str(size)[:40]}, "
                f"{len(tail) - used} bytes are there"
            )
        found[at] = _decode_binary(tensor, tail[used : used + size], spec)
        used += size
    if used != len(tail):
        raise MalformedRequestError(f"{len(tail) - used} bytes behind the last binary tensor")
    return signature.assemble(found)


def _decode_binary(tensor: dict[str, Any], data: memoryview, spec: TensorSpec) -> Array:
    if "data" in tensor:
        raise MalformedRequestError(f"input {spec.name!r} has both 'data' and binary data")
    dtype = checked_dtype(tensor.get("datatype"), spec)
    shape, _ = checked_shape(tensor.get("shape"), spec)
    return decode_raw(data, shape, dtype, spec)


def _decode_outputs(
    asked: object, signature: Signature, *, binary: bool
) -> tuple[WantedOutput, ...]:
    if asked is None or asked == []:
        return _all_outputs(len(signature.outputs), binary)
    if type(asked) is not list:
        raise MalformedRequestError("'outputs' must be an array")
    taken: list[int] = []
    wanted: list[WantedOutput] = []
    for output in asked:
        name = output.get("name") if type(output) is dict else None
        at = signature.output(name, taken)
        taken.append(at)
        where = f"output {name!r}"
        parameters = _checked_parameters(output, where)
        raw = _flag(parameters, "binary_data", where) if "binary_data" in parameters else binary
        classes = parameters.get("classification", 0)
        if type(classes) is not int or classes < 0:
            raise InvalidInputError(
                f"{where}: 'classification' must be a number of classes, got {str(classes)[:40]}"
            )
        wanted.append(WantedOutput(at, raw, classes))
    return tuple(wanted)


@functools.lru_cache
def _all_outputs(count: int, binary: bool) -> tuple[WantedOutput, ...]:  # noqa: FBT001 - a key
    return tuple(WantedOutput(at, binary, 0) for at in range(count))


def _flag(parameters: Mapping[str, Any], word: str, where: str) -> bool:
    value = parameters.get(word, False)
    if type(value) is not bool:
        raise InvalidInputError(f"{where}: {word!r} must be true or false, got {str(value)[:40]}")
    return value


def _checked_parameters(holder: dict[str, Any], where: str) -> Mapping[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return _NO_PARAMETERS
    if type(parameters) is not dict:
        raise MalformedRequestError(f"'parameters' of {where} must be an object")
    if "shared_memory_region" in parameters:
        raise UnsupportedMediaError(
            f"'shared_memory_region' of {where}: shared memory is not spoken here"
        )
    for name, value in parameters.items():
        if type(value) not in _PARAMETER_TYPES:
            raise InvalidInputError(
                f"parameter {name[:40]!r} of {where} must be a string, a number, true or false"
            )
    return parameters
