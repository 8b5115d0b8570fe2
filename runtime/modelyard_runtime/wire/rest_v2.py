"""Open Inference Protocol V2 over REST: bodies ↔ questions and arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from modelyard_runtime.errors import MalformedRequestError, UnsupportedMediaError
from modelyard_runtime.inference import Question
from modelyard_runtime.tensors import decode_tensor, encode_tensor

if TYPE_CHECKING:
    from modelyard_runtime.engine.protocol import Arrays
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.signature import Signature

_JSON: Final = orjson.OPT_SERIALIZE_NUMPY
_MAX_ID: Final = 1024
_UNSPOKEN: Final = (
    "binary_data",
    "binary_data_size",
    "binary_data_output",
    "classification",
    "shared_memory_region",
)
"""Parameters of protocol extensions that change the answer and are not spoken here."""


def decode_request(body: bytes, signature: Signature) -> Question:
    """Parse and check a request against what the model declares.

    Args:
        body: A JSON inference request.
        signature: What the model takes and gives.

    Returns:
        The request, ready for the model.

    Raises:
        MalformedRequestError: Not JSON, or not an inference request.
        InvalidInputError: A tensor does not fit the model.
        UnsupportedMediaError: It asks for an extension that is not spoken.

    References:
        Open Inference Protocol, HTTP/REST, "Inference Request JSON Object".
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError(f"the body is not JSON: {error}") from None
    if type(document) is not dict:
        raise MalformedRequestError("the body must be a JSON object")
    request_id = document.get("id")
    if request_id is not None and (type(request_id) is not str or len(request_id) > _MAX_ID):
        raise MalformedRequestError(f"'id' must be a string of at most {_MAX_ID} characters")
    parameters = _checked_parameters(document, "the request")
    arrays = _decode_inputs(document.get("inputs"), signature)
    asked = document.get("outputs")
    outputs = signature.all_outputs if asked is None else _decode_outputs(asked, signature)
    rows = signature.rows(arrays)
    return Question(request_id, arrays, outputs, signature.key(arrays), rows, parameters)


def encode_answer(served: ServedModel, question: Question, outputs: Arrays) -> bytes:
    """Write the answer to one request.

    Args:
        served: The model that answered.
        question: The request.
        outputs: What the model gave for it.

    Returns:
        A JSON inference response.

    Raises:
        NonFiniteOutputError: A requested output holds NaN or infinity.

    References:
        Open Inference Protocol, HTTP/REST, "Inference Response JSON Object".
    """
    specs = served.signature.outputs
    document: dict[str, Any] = {"model_name": served.name, "model_version": served.version}
    if question.request_id is not None:
        document["id"] = question.request_id
    document["outputs"] = [encode_tensor(specs[at].name, outputs[at]) for at in question.outputs]
    return orjson.dumps(document, option=_JSON)


def _decode_inputs(tensors: object, signature: Signature) -> Arrays:
    if type(tensors) is not list:
        raise MalformedRequestError("'inputs' must be an array of tensors")
    found: dict[int, Any] = {}
    for tensor in tensors:
        at, spec = signature.input(tensor.get("name") if type(tensor) is dict else None, found)
        _checked_parameters(tensor, f"input {spec.name!r}")
        found[at] = decode_tensor(tensor, spec)
    return signature.assemble(found)


def _decode_outputs(asked: object, signature: Signature) -> tuple[int, ...]:
    if type(asked) is not list:
        raise MalformedRequestError("'outputs' must be an array")
    wanted: list[int] = []
    for output in asked:
        name = output.get("name") if type(output) is dict else None
        wanted.append(signature.output(name, wanted))
        _checked_parameters(output, f"output {name!r}")
    return tuple(wanted) or signature.all_outputs


def _checked_parameters(holder: dict[str, Any], where: str) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise MalformedRequestError(f"'parameters' of {where} must be an object")
    for word in _UNSPOKEN:
        if parameters.get(word):
            raise UnsupportedMediaError(
                f"parameter {word!r} of {where} belongs to an extension that is not spoken here"
            )
    return parameters
