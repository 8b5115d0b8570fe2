"""A request that was answered → the same request for another server, and its answer → a verdict.

References:
    Triton, "Binary Tensor Data Extension".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from modelyard_runtime.engine.protocol import ANY, DTYPES, TensorSpec
from modelyard_runtime.tensors import datatype_of, decode_tensor
from modelyard_runtime.wire.raw import decode_raw, encode_raw

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.engine.protocol import Array
    from modelyard_runtime.inference import Question, ServedModel

LENGTH_HEADER: Final = "Inference-Header-Content-Length"
_TOLERANCE: Final = 1e-3


def encode_copy(served: ServedModel, question: Question) -> tuple[bytes, int]:
    """Write a question anew, whatever protocol it came by.

    Args:
        served: The model that answered it.
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


def agree(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> bool:
    """Tell whether two revisions say the same.

    Outputs agree when they are equal; numbers also when they are within a thousandth of each other;
    scores (floats, two or more on the last axis) also when the highest is at the same place in every
    row, since a model that was trained again never gives the same scores.

    Args:
        ours: Name → array of the revision that answered the caller.
        theirs: Name → array of the other.

    Returns:
        Whether every output of ours has one that agrees; outputs that only they have do not count.
    """
    return all(name in theirs and _alike(array, theirs[name]) for name, array in ours.items())


def _alike(left: Array, right: Array) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind not in "fV":
        return bool(np.array_equal(left, right))
    left, right = left.astype(np.float64), right.astype(np.float64)
    if np.allclose(left, right, _TOLERANCE, _TOLERANCE, equal_nan=True):
        return True
    if left.ndim == 0 or left.shape[-1] < 2:  # noqa: PLR2004 - a choice needs two
        return False
    return bool(np.array_equal(left.argmax(-1), right.argmax(-1)))
