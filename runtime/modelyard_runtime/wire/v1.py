"""V1 prediction bodies ↔ questions and arrays.

References:
    TensorFlow Serving, RESTful API, "Predict API"; KServe, "V1 Inference Protocol".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from modelyard_runtime.errors import InvalidInputError, MalformedRequestError
from modelyard_runtime.wire.documents import decode_object
from modelyard_runtime.wire.rows import (
    decode_columns,
    decode_instances,
    encode_named,
    question_of,
)

if TYPE_CHECKING:
    from modelyard_runtime.engine.protocol import Arrays
    from modelyard_runtime.inference import Question
    from modelyard_runtime.signature import Signature

_JSON: Final = orjson.OPT_SERIALIZE_NUMPY
_SIGNATURE: Final = "serving_default"


class V1Question(NamedTuple):
    """A question, and the format of its answer.

    Attributes:
        question: What the model is asked.
        rows: How many ``instances`` were sent; None in the column format.
    """

    question: Question
    rows: int | None


def decode_prediction(body: bytes, signature: Signature) -> V1Question:
    """Parse and check a prediction request.

    Args:
        body: ``{"instances": [...]}`` or ``{"inputs": ...}``.
        signature: What the model takes and gives.

    Returns:
        The request, ready for the model.

    Raises:
        MalformedRequestError: Not JSON, or neither format, or both.
        InvalidInputError: A value does not fit the model.
    """
    document = decode_object(body)
    name = document.get("signature_name", _SIGNATURE)
    if name != _SIGNATURE:
        raise InvalidInputError(
            f"'signature_name': there is only {_SIGNATURE!r} here, got {str(name)[:40]!r}"
        )
    if ("instances" in document) == ("inputs" in document):
        raise MalformedRequestError("the body must hold either 'instances' or 'inputs'")
    if "inputs" in document:
        arrays = decode_columns(document["inputs"], signature)
        return V1Question(question_of(arrays, signature), None)
    arrays = decode_instances(document["instances"], signature)
    return V1Question(question_of(arrays, signature), len(document["instances"]))


def encode_prediction(asked: V1Question, outputs: Arrays, signature: Signature) -> bytes:
    """Write the answer in the request's own format.

    Args:
        asked: The request.
        outputs: One per output.
        signature: What the model gives.

    Returns:
        ``{"predictions": [...]}`` or ``{"outputs": ...}``; where there are several outputs, objects
        by name.

    Raises:
        InvalidInputError: Rows are asked for, and the model does not answer in rows.
        NonFiniteOutputError: An output holds NaN or infinity.
    """
    if asked.rows is not None:
        for array, spec in zip(outputs, signature.outputs, strict=True):
            if array.shape[:1] != (asked.rows,):
                raise InvalidInputError(
                    f"output {spec.name!r} has shape {list(array.shape)}, which is not one row "
                    f"for each of {asked.rows} instances; ask with 'inputs'"
                )
    named = encode_named(signature.outputs, outputs)
    answer: Any = named
    if len(named) == 1:
        (answer,) = named.values()
    elif asked.rows is not None:
        answer = [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]
    word = "outputs" if asked.rows is None else "predictions"
    return orjson.dumps({word: answer}, option=_JSON)
