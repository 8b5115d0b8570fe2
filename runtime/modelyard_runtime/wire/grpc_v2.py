"""Open Inference Protocol V2 over gRPC: messages ↔ questions and arrays.

References:
    Open Inference Protocol, gRPC, "Inference"; "Tensor Data".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from modelyard_runtime.engine.protocol import ANY, DTYPES, TensorSpec
from modelyard_runtime.errors import InvalidInputError, MalformedRequestError, UnsupportedMediaError
from modelyard_runtime.grpc_api import inference_pb2 as pb
from modelyard_runtime.inference import Question
from modelyard_runtime.request_ids import checked_id
from modelyard_runtime.signature import checked_dtype, checked_shape
from modelyard_runtime.tensors import datatype_of
from modelyard_runtime.wire.classification import classify
from modelyard_runtime.wire.raw import decode_raw, encode_raw

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.engine.protocol import Array, Arrays
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.signature import Signature

_CONTENTS: Final[Mapping[str, str]] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Datatype → the field of ``InferTensorContents`` that holds it; the others travel raw only."""


class GrpcQuestion(NamedTuple):
    """A question and how it is to be answered.

    Attributes:
        question: What the model is asked.
        classes: For each wanted output how many classes instead of its values; 0 for the values.
    """

    question: Question
    classes: tuple[int, ...]


def decode_request(request: pb.ModelInferRequest, signature: Signature) -> GrpcQuestion:
    """Check a request against what the model declares.

    Args:
        request: The message.
        signature: What the model takes and gives.

    Returns:
        The request, ready for the model.

    Raises:
        MalformedRequestError: Raw and typed contents are mixed, or do not match the inputs.
        InvalidInputError: A tensor or a parameter does not fit the model.
        UnsupportedMediaError: A tensor lies in shared memory.
    """
    request_id = checked_id(request.id)
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise MalformedRequestError(
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs"
        )
    found: dict[int, Any] = {}
    for index, tensor in enumerate(request.inputs):
        at, spec = signature.input(tensor.name, found)
        parameters_of(tensor.parameters)
        dtype = checked_dtype(tensor.datatype, spec)
        shape, elements = checked_shape(list(tensor.shape), spec)
        if not raw:
            found[at] = _decode_typed(tensor, shape, elements, spec)
        elif tensor.HasField("contents"):
            raise MalformedRequestError(f"input {spec.name!r} has both raw and typed contents")
        else:
            found[at] = decode_raw(raw[index], shape, dtype, spec)
    arrays = signature.assemble(found)
    outputs, classes = _decode_outputs(request, signature)
    question = Question(
        request_id,
        arrays,
        outputs,
        signature.key(arrays),
        signature.rows(arrays),
        parameters_of(request.parameters),
    )
    return GrpcQuestion(question, classes)


def encode_answer(
    served: ServedModel, asked: GrpcQuestion, outputs: Arrays
) -> pb.ModelInferResponse:
    """Write the answer to one request, all tensors raw.

    Args:
        served: The model that answered.
        asked: The request.
        outputs: What the model gave for it.

    Returns:
        The message.
    """
    response = _head(served, asked)
    specs = served.signature.outputs
    for at, count in zip(asked.question.outputs, asked.classes, strict=True):
        _add(response, served, specs[at], outputs[at], classes=count)
    return response


def encode_part(
    served: ServedModel, asked: GrpcQuestion, named: Mapping[str, Array]
) -> pb.ModelInferResponse:
    """Write a part of an answer.

    Args:
        served: The model that answered.
        asked: The request.
        named: Output's name → array; not every part has every output.

    Returns:
        The message; of the declared outputs it has those that the request wants.
    """
    response = _head(served, asked)
    specs = served.signature.outputs
    for at, count in zip(asked.question.outputs, asked.classes, strict=True):
        if specs[at].name in named:
            _add(response, served, specs[at], named[specs[at].name], classes=count)
    for name in named.keys() - {spec.name for spec in specs}:
        _add(response, served, TensorSpec(name, ANY, None), named[name], classes=0)
    return response


def _head(served: ServedModel, asked: GrpcQuestion) -> pb.ModelInferResponse:
    return pb.ModelInferResponse(
        model_name=served.name, model_version=served.version, id=asked.question.request_id or ""
    )


def _add(
    response: pb.ModelInferResponse,
    served: ServedModel,
    spec: TensorSpec,
    array: Array,
    *,
    classes: int,
) -> None:
    if classes:
        array = classify(array, classes, spec, batched=served.signature.answers_rows)
    if array.dtype.kind in "fV" and not np.isfinite(array).all():
        served.metrics.invalid_output()
    response.outputs.add(name=spec.name, datatype=datatype_of(array), shape=array.shape)
    response.raw_output_contents.append(encode_raw(array))


def parameters_of(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    """Unwrap a map of parameters.

    Args:
        parameters: The message's map.

    Returns:
        Name → bool, int, float or str.

    Raises:
        InvalidInputError: One of them has no value.
        UnsupportedMediaError: One of them points to shared memory.
    """
    values = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidInputError(f"parameter {name[:40]!r} has no value")
        if name == "shared_memory_region":
            raise UnsupportedMediaError(f"{name!r}: shared memory is not spoken here")
        values[name] = getattr(value, choice)
    return values


def _decode_typed(
    tensor: pb.ModelInferRequest.InferInputTensor,
    shape: tuple[int, ...],
    elements: int,
    spec: TensorSpec,
) -> Array:
    name, datatype = spec.name, tensor.datatype
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InvalidInputError(f"input {name!r}: {datatype} travels in raw_input_contents only")
    wrong = [f.name for f, _ in tensor.contents.ListFields() if f.name != field]
    if wrong:
        raise InvalidInputError(f"input {name!r}: {datatype} belongs in {field}, got {wrong[0]}")
    values = getattr(tensor.contents, field)
    if len(values) != elements:
        raise InvalidInputError(
            f"input {name!r}: shape {list(shape)} holds {elements} values, {field} has {len(values)}"
        )
    dtype = DTYPES[datatype]
    try:
        array: Array = np.array(list(values), dtype=dtype)
    except OverflowError:
        raise InvalidInputError(
            f"input {name!r}: {field} holds values outside {datatype}"
        ) from None
    return array.astype(DTYPES.get(spec.datatype, dtype), copy=False).reshape(shape)


def _decode_outputs(
    request: pb.ModelInferRequest, signature: Signature
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if not request.outputs:
        return signature.all_outputs, (0,) * len(signature.all_outputs)
    wanted: list[int] = []
    classes: list[int] = []
    for output in request.outputs:
        wanted.append(signature.output(output.name, wanted))
        parameters = parameters_of(output.parameters)
        count = parameters.get("classification", 0)
        if type(count) is not int or count < 0:
            raise InvalidInputError(
                f"output {output.name!r}: 'classification' must be a number of classes"
            )
        classes.append(count)
    return tuple(wanted), tuple(classes)
