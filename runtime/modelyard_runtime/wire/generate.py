"""Generate bodies ↔ questions and parts of an answer.

References:
    Triton, "Generate Extension"; Open Inference Protocol, "generate_rest.yaml".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from modelyard_runtime.errors import InvalidInputError, MalformedRequestError
from modelyard_runtime.request_ids import checked_id
from modelyard_runtime.wire.documents import decode_object
from modelyard_runtime.wire.rows import decode_named, encode_values, question_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.engine.protocol import Array
    from modelyard_runtime.inference import Question, ServedModel
    from modelyard_runtime.signature import Signature

_JSON: Final = orjson.OPT_SERIALIZE_NUMPY


def decode_generate(body: bytes, signature: Signature) -> Question:
    """Parse and check a generate request.

    Args:
        body: A JSON object: a scalar or a list for each input of the model, ``id`` and
            ``parameters``. Scalars that are no input are parameters as well.
        signature: What the model takes and gives.

    Returns:
        The request, ready for the model.

    Raises:
        MalformedRequestError: Not a JSON object, or ``id`` or ``parameters`` are not what they must be.
        InvalidInputError: A value does not fit the model.
    """
    document = decode_object(body)
    known = {spec.name for spec in signature.inputs}
    values = {name: document.pop(name) for name in known & document.keys()}
    request_id = checked_id(document.pop("id", None))
    parameters = document.pop("parameters", None)
    if parameters is None:
        parameters = {}
    if type(parameters) is not dict:
        raise MalformedRequestError("'parameters' must be an object")
    for name, value in document.items():
        if isinstance(value, (list, dict)):
            raise InvalidInputError(
                f"unknown input {name[:80]!r}; the model takes {', '.join(map(repr, sorted(known)))}"
            )
    arrays = decode_named(values, signature, pad=True)
    return question_of(
        arrays, signature, request_id=request_id, parameters={**document, **parameters}
    )


def encode_part(served: ServedModel, question: Question, named: Mapping[str, Array]) -> bytes:
    """Write an answer, or a part of one.

    Args:
        served: The model that answered.
        question: The request.
        named: Output's name → array.

    Returns:
        A flat JSON object: ``model_name``, ``model_version``, ``id`` if there was one, and each
        output as a scalar, or as a list of its values in row-major order.

    Raises:
        NonFiniteOutputError: An output holds NaN or infinity.
    """
    document: dict[str, Any] = {"model_name": served.name, "model_version": served.version}
    if question.request_id is not None:
        document["id"] = question.request_id
    for name, array in named.items():
        values = encode_values(name, array.reshape(-1))
        document[name] = values[0] if array.size == 1 else values
    return orjson.dumps(document, option=_JSON)
