"""The same models for two servers: Python for tritonserver, ONNX for ours."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import helper, numpy_helper, save

from testkit import runtime_models
from testkit.triton_server import DATA

if TYPE_CHECKING:
    from pathlib import Path

ROWS: Final = 8
"""Most rows of a batch, on both sides."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a model, without the axis of rows."""

    name: str
    datatype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A model."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batched: bool = True
    decoupled: bool = False
    """Whether it may answer a request any number of times."""


def _identity(name: str, datatype: str, *dims: int, batched: bool = True) -> Entry:
    x, y = Tensor("x", datatype, dims), Tensor("y", datatype, dims)
    return Entry(name, (x,), (y,), batched=batched)


DATATYPES: Final = (*runtime_models.ONNX_TYPES, "BF16")
IDENTITIES: Final = tuple(_identity(f"identity-{d.lower()}", d, -1) for d in DATATYPES)
FIXED: Final = _identity("fixed", "FP32", 2, 3)
WHOLE: Final = _identity("whole", "FP32", 2, 3, batched=False)
WORDS: Final = _identity("words", "BYTES", -1)
PAIR: Final = Entry(
    "pair",
    (Tensor("a", "INT32", (4,)), Tensor("b", "INT32", (4,))),
    (Tensor("sum", "INT32", (4,)), Tensor("difference", "INT32", (4,))),
)
PARTS: Final = Entry(
    "parts", (Tensor("x", "INT32", (-1,)),), (Tensor("y", "INT32", (-1,)),), decoupled=True
)
"""Answers once for each number, with it; a negative one makes it fail."""
MODELS: Final = (*IDENTITIES, FIXED, WHOLE, WORDS, PAIR)
"""Those that answer once."""
_BF16: Final = IDENTITIES[-1]
_IDENTITY: Final = """
def predict(x):
    return {"y": x}
"""
_HANDLER: Final = """
def predict(x):
    return {"y": x}

def stream(request, ctx):
    for number in request.inputs["x"].reshape(-1):
        if number < 0:
            raise ValueError("negative")
        yield {"y": number.reshape(1, 1)}
"""
_CONFIG: Final = """
format: Custom
inputs: [{{name: x, dtype: {0}, shape: [-1, -1]}}]
outputs: [{{name: y, dtype: {0}, shape: [-1, -1]}}]
"""


def write_for_triton(folder: Path) -> None:
    """Write a repository of Python models."""
    for entry in (*MODELS, PARTS):
        place = folder / entry.name / "1"
        place.mkdir(parents=True)
        shutil.copy(DATA / "model.py", place)
        text = [
            'backend: "python"',
            f"max_batch_size: {ROWS if entry.batched else 0}",
            *(_config("input", tensor) for tensor in entry.inputs),
            *(_config("output", tensor) for tensor in entry.outputs),
            "instance_group [{ kind: KIND_CPU count: 1 }]",
            "dynamic_batching {}" if entry.batched else "",
            "model_transaction_policy { decoupled: true }" if entry.decoupled else "",
        ]
        (place.parent / "config.pbtxt").write_text("\n".join(text))


def write_for_ours(folder: Path) -> None:
    """Write a repository of ONNX files, and of handlers for what ONNX cannot."""
    for entry, code in ((PARTS, _HANDLER), (_BF16, _IDENTITY)):
        place = folder / entry.name
        place.mkdir(parents=True)
        (place / "handler.py").write_text(code)
        (place / "model.yaml").write_text(_CONFIG.format(entry.inputs[0].datatype))
    for entry in MODELS:
        if entry is _BF16:
            continue
        place = folder / entry.name / "1"
        place.mkdir(parents=True)
        constants = []
        if entry is PAIR:
            nodes = [
                helper.make_node("Add", ["a", "b"], ["sum"]),
                helper.make_node("Sub", ["a", "b"], ["difference"]),
            ]
        elif entry is WORDS:
            nodes = [helper.make_node("StringConcat", ["x", "mark"], ["y"])]
            constants = [numpy_helper.from_array(np.array(["!"], np.object_), "mark")]
        else:
            nodes = [helper.make_node("Identity", ["x"], ["y"])]
        rows = ["rows"] if entry.batched else []
        graph = helper.make_graph(
            nodes,
            entry.name,
            [_value(tensor, rows) for tensor in entry.inputs],
            [_value(tensor, rows) for tensor in entry.outputs],
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        save(model, str(place / "model.onnx"))


def _config(kind: str, tensor: Tensor) -> str:
    datatype = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    dims = ", ".join(map(str, tensor.dims))
    return f'{kind} [{{ name: "{tensor.name}" data_type: TYPE_{datatype} dims: [{dims}] }}]'


def _value(tensor: Tensor, rows: list[str]) -> Any:
    sizes = [f"n{axis}" if n == -1 else n for axis, n in enumerate(tensor.dims)]
    return helper.make_tensor_value_info(
        tensor.name, runtime_models.ONNX_TYPES[tensor.datatype], [*rows, *sizes]
    )
