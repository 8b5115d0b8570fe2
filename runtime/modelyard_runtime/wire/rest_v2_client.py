"""The other side of ``rest_v2``: questions → bodies for a server, and its answers → arrays.

References:
    Triton, "Binary Tensor Data Extension".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from modelyard_runtime.engine.protocol import ANY, DTYPES, TensorSpec
from modelyard_runtime.tensors import datatype_of, decode_tensor
from modelyard_runtime.wire.raw import decode_raw, encode_raw

if TYPE_CHECKING:
    from modelyard_runtime.engine.protocol import Array
    from modelyard_runtime.inference import Question, ServedModel

LENGTH_HEADER: Final = "Inference-Header-Content-Length"


def encode_question(served: ServedModel, question: Question) -> tuple[bytes, int]:
    """Write a question, whatever protocol it came by.

    Args:
        served: The model that it was decoded for.
        question: The question.

    Returns:
        A body with binary tensors that asks for binary outputs, and the bytes of JSON at its front.
    """
    inputs: list[dict[str, Any]] = []
    tails = []
    for spec, array in zip(served.signature.inputs, question.arrays, strict=True):
        raw = encode_raw(array)
        tails.append(raw)
        inputs.append(
            {
                "name": spec.name,
                "datatype": datatype_of(array),
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(raw)},
            }
        )
    parameters = {**question.parameters, "binary_data_output": True}
    head = orjson.dumps({"inputs": inputs, "parameters": parameters})
    return b"".join([head, *tails]), len(head)


def decode_answer(body: bytes, header_length: int | None) -> dict[str, Array]:
    """Read an answer.

    Args:
        body: JSON, binary tensors behind it.
        header_length: Bytes of JSON; None: all of it.

    Returns:
        Name → array.

    Raises:
        ValueError: It is no answer of the protocol.
        KeyError: Likewise.
        RequestError: Likewise.
    """
    size = len(body) if header_length is None else header_length
    document, at = orjson.loads(body[:size]), size
    answer = {}
    for tensor in document["outputs"]:
        name = tensor["name"]
        spec = TensorSpec(name, ANY, None)
        length = tensor.get("parameters", {}).get("binary_data_size")
        if length is None:
            answer[name] = decode_tensor(tensor, spec)
            continue
        dtype = DTYPES[tensor["datatype"]]
        raw = memoryview(body)[at : at + length]
        answer[name] = decode_raw(raw, tuple(tensor["shape"]), dtype, spec)
        at += length
    return answer
