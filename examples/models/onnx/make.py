"""Write ``scores = pixels @ weights`` as an ONNX graph; other libraries export theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

weights = np.array([[1, 0, 0.5], [0, 1, 0.5]], np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["pixels", "weights"], ["scores"])],
    "scores",
    [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 2])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
    [numpy_helper.from_array(weights, "weights")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, str(Path(__file__).parent / "model.onnx"))
