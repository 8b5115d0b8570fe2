"""Model files for the runtime's tests, small enough to make anew for every test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import joblib
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

if TYPE_CHECKING:
    from pathlib import Path

ONNX_TYPES: Final = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
WEIGHTS: Final = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


def save_onnx(
    path: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    constants: list[Any] | None = None,
) -> Path:
    """Write a checked ONNX file."""
    graph = helper.make_graph(nodes, "test", inputs, outputs, constants or [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, str(path))
    return path


def value(name: str, datatype: str, shape: list[Any]) -> Any:
    """Describe one ONNX tensor."""
    return helper.make_tensor_value_info(name, ONNX_TYPES[datatype], shape)


def linear_onnx(path: Path) -> Path:
    """``y = x @ WEIGHTS`` for x of shape (batch, 4)."""
    return save_onnx(
        path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", "FP32", ["batch", 4])],
        [value("y", "FP32", ["batch", 3])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )


def nan_onnx(path: Path) -> Path:
    """``y = x @ NaN`` for x of shape (batch, 4)."""
    return save_onnx(
        path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", "FP32", ["batch", 4])],
        [value("y", "FP32", ["batch", 3])],
        [numpy_helper.from_array(WEIGHTS * np.float32(np.nan), "w")],
    )


def identity_onnx(path: Path, datatype: str, shape: list[Any]) -> Path:
    """Give ``x`` back as ``y``."""
    return save_onnx(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", datatype, shape)],
        [value("y", datatype, shape)],
    )


def text_onnx(path: Path) -> Path:
    """Give ``text_input`` back as ``text_output``, one string a row."""
    return save_onnx(
        path,
        [helper.make_node("Identity", ["text_input"], ["text_output"])],
        [value("text_input", "BYTES", ["batch", 1])],
        [value("text_output", "BYTES", ["batch", 1])],
    )


def lookup_onnx(path: Path) -> Path:
    """Look ``i`` up in a table of ten; an index out of range makes the model raise."""
    return save_onnx(
        path,
        [helper.make_node("Gather", ["table", "i"], ["y"])],
        [value("i", "INT64", ["batch", 1])],
        [value("y", "FP32", ["batch", 1])],
        [numpy_helper.from_array(np.arange(10, dtype=np.float32), "table")],
    )


def log_onnx(path: Path) -> Path:
    """``y = log(x)`` beside ``x``: NaN for negative numbers."""
    return save_onnx(
        path,
        [helper.make_node("Log", ["x"], ["y"]), helper.make_node("Identity", ["x"], ["same"])],
        [value("x", "FP32", ["batch", 1])],
        [value("y", "FP32", ["batch", 1]), value("same", "FP32", ["batch", 1])],
    )


def cumulative_onnx(path: Path) -> Path:
    """Add up along the first axis: rows that depend on their neighbours."""
    return save_onnx(
        path,
        [helper.make_node("CumSum", ["x", "axis"], ["y"])],
        [value("x", "FP32", ["time", 2])],
        [value("y", "FP32", ["time", 2])],
        [numpy_helper.from_array(np.array(0, dtype=np.int64), "axis")],
    )


def two_inputs_onnx(path: Path) -> Path:
    """``y = a + b``, two inputs of shape (batch, 2)."""
    return save_onnx(
        path,
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [value("a", "FP32", ["batch", 2]), value("b", "FP32", ["batch", 2])],
        [value("y", "FP32", ["batch", 2])],
    )


def classifier_joblib(path: Path) -> Path:
    """Save a fitted logistic regression on four features."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import

    random = np.random.default_rng(1)
    x = random.normal(size=(60, 4))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0).astype(int)
    joblib.dump(LogisticRegression().fit(x, y), path)
    return path


def request(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    """Return an inference request of one input."""
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}
