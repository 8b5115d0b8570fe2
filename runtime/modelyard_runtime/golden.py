"""Recorded requests: what is answered, and compared, before a model turns ready.

References:
    docs/reference/runtime-contract.md, "Golden requests".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np
import orjson

from modelyard_runtime.engine.protocol import ANY, TensorSpec
from modelyard_runtime.errors import InvalidInputError, MalformedRequestError, Reason, StartupError
from modelyard_runtime.tensors import decode_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Array, Arrays

_ALIKE: Final = 1e-6
"""Floats this near to each other agree, however small they are."""
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Recording:
    """One request of a file.

    Attributes:
        name: Where it stands, for messages: ``verify.json, request 2``.
        request: The body, in the Open Inference Protocol's JSON.
        outputs: Name → the tensor that was recorded, as in the protocol's JSON; empty for warm-ups.
    """

    name: str
    request: bytes
    outputs: dict[str, Any]


def read_warmups(paths: Sequence[Path]) -> list[Recording]:
    """Read files that hold a request, or a list of them, each.

    Args:
        paths: The files.

    Returns:
        The requests in order.

    Raises:
        StartupError: ``InvalidSettings``, naming the file and what is wrong.
    """
    return [
        Recording(name, orjson.dumps(document), {})
        for path in paths
        for name, document in _documents(path)
    ]


def read_verifications(paths: Sequence[Path]) -> list[Recording]:
    """Read files that hold a list of requests with their answers each.

    Args:
        paths: The files.

    Returns:
        The recordings in order.

    Raises:
        StartupError: ``InvalidSettings``, naming the file and what is wrong.
    """
    recordings = []
    for path in paths:
        for name, document in _documents(path):
            request, response = document.get("request"), document.get("response")
            outputs = response.get("outputs") if isinstance(response, dict) else None
            if not isinstance(request, dict) or not _named(outputs):
                raise _invalid(
                    f"{name}: expected an object with 'request' and 'response', whose 'outputs' are "
                    "named tensors"
                )
            recordings.append(
                Recording(name, orjson.dumps(request), {each["name"]: each for each in outputs})
            )
    return recordings


def difference(
    recording: Recording, specs: Sequence[TensorSpec], outputs: Arrays, tolerance: float
) -> str | None:
    """Compare an answer with the recorded one.

    Args:
        recording: What was recorded; outputs that it does not name are not compared.
        specs: What the model declares to give.
        outputs: What it gave, in the order of ``specs``.
        tolerance: Most that a float may differ from the recorded one, as a share of that.

    Returns:
        What differs first, in words; None when nothing does.
    """
    given = {spec.name: array for spec, array in zip(specs, outputs, strict=True)}
    for name, recorded in recording.outputs.items():
        array = given.get(name)
        if array is None:
            return f"output {name!r} is recorded, the model gives {', '.join(map(repr, given))}"
        try:
            wanted = decode_tensor(recorded, TensorSpec(name, ANY, None))
        except (InvalidInputError, MalformedRequestError) as error:
            return f"the recording cannot be read: {error}".replace("input", "output", 1)
        if (problem := _unlike(name, array, wanted, tolerance)) is not None:
            return problem
    return None


def _unlike(name: str, array: Array, wanted: Array, tolerance: float) -> str | None:
    if array.shape != wanted.shape:
        return f"output {name!r}: recorded shape {list(wanted.shape)}, got {list(array.shape)}"
    if array.dtype.kind in "fV":
        left, right = array.astype(np.float64), wanted.astype(np.float64)
        alike = np.isclose(left, right, rtol=tolerance, atol=_ALIKE, equal_nan=True)
    else:
        alike = array == wanted
    wrong = np.argwhere(~alike)
    if not len(wrong):
        return None
    shown = "; ".join(
        f"at {at.tolist()} recorded {wanted[tuple(at)]}, got {array[tuple(at)]}"
        for at in wrong[:_SHOWN]
    )
    return f"output {name!r}: {len(wrong)} of {array.size} values differ: {shown}"


def _documents(path: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise _invalid(f"{path}: cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise _invalid(f"{path.name} is not JSON: {error}") from None
    documents = content if isinstance(content, list) else [content]
    if not documents or not all(isinstance(each, dict) for each in documents):
        raise _invalid(f"{path.name}: expected an object or a list of objects")
    return [
        (f"{path.name}, request {at}", document) for at, document in enumerate(documents, start=1)
    ]


def _named(outputs: object) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(outputs, list) and all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in outputs
    )


def _invalid(problem: str) -> StartupError:
    return StartupError(
        Reason.INVALID_SETTINGS,
        problem,
        hint="See docs/reference/runtime-contract.md, 'Golden requests'.",
    )
