"""Model files, request bodies, and the answers that every server must give."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from architectures import SHAPES, build
from processes import Request

if TYPE_CHECKING:
    from pathlib import Path

_JSON: Final = {"content-type": "application/json"}
INPUT: Final = "input"
_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class Artifacts:
    """What is served.

    Attributes:
        exported: Model → its ``.pt2``.
        expected: Model → the answer to the one row that is asked, ``(10,)``.
    """

    exported: dict[str, Path]
    expected: dict[str, np.ndarray[Any, Any]]


def row(model: str) -> np.ndarray[Any, Any]:
    """Return the row that is asked, ``(1, …)`` float32; always the same."""
    return np.random.default_rng(7).random((1, *SHAPES[model]), dtype=np.float32)


def make(folder: Path) -> Artifacts:
    """Export the models.

    Args:
        folder: Where to.

    Returns:
        The files and the answers.
    """
    exported, expected = {}, {}
    for name, shape in SHAPES.items():
        module = build(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = {0: torch.export.Dim.DYNAMIC}
            program = torch.export.export(
                module, (torch.zeros(2, *shape),), dynamic_shapes=(batch,)
            )
            exported[name] = folder / f"{name}.pt2"
            torch.export.save(program, exported[name])
        with torch.inference_mode():
            expected[name] = module(torch.from_numpy(row(name)))[0].numpy()
    return Artifacts(exported, expected)


def data_request(model: str, path: str = "/infer") -> Request:
    """Return what a client of a naive server sends: nested lists."""
    return Request(path, json.dumps({"data": row(model).tolist()}).encode(), _JSON)


def v2_request(model: str) -> Request:
    """Return the Open Inference Protocol's JSON."""
    x = row(model)
    tensor = {"name": INPUT, "datatype": "FP32", "shape": list(x.shape)}
    body = {"inputs": [{**tensor, "data": x.reshape(-1).tolist()}]}
    return Request(f"/v2/models/{model}/infer", json.dumps(body).encode(), _JSON)


def binary_request(model: str) -> Request:
    """Return the same with the binary tensor extension, both ways."""
    return binary(model, row(model))


def binary(model: str, x: np.ndarray[Any, Any]) -> Request:
    """Write rows as one binary tensor.

    Args:
        model: Whom it is for.
        x: ``(n, …)`` float32.

    Returns:
        The request, which asks for binary outputs.
    """
    raw = x.tobytes()
    tensor = {"name": INPUT, "datatype": "FP32", "shape": list(x.shape)}
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    return Request(f"/v2/models/{model}/infer", head + raw, headers)


def check(answer: bytes, expected: np.ndarray[Any, Any], *, binary_answer: bool) -> None:
    """Compare an answer with the model's own.

    Args:
        answer: The body, in whatever shape a server gives it.
        expected: ``(10,)``.
        binary_answer: Whether the values are the body's last bytes.

    Raises:
        RuntimeError: They differ.
    """
    if binary_answer:
        values = np.frombuffer(answer[-expected.nbytes :], np.float32)
    else:
        values = np.array(list(_numbers(json.loads(answer)))[-expected.size :])
    if values.shape != expected.shape or not np.allclose(values, expected, _TOLERANCE, _TOLERANCE):
        raise RuntimeError(f"a wrong answer: {answer[:300]!r}")


def _numbers(document: Any) -> Any:
    """Find the floats of an answer, in order."""
    if isinstance(document, dict):
        document = document.get("outputs") or document.get("data") or document.get("output")
    if isinstance(document, dict):
        document = document.get("data", [])
    for each in document or []:
        if isinstance(each, (list, dict)):
            yield from _numbers(each)
        elif isinstance(each, (int, float)):
            yield each
