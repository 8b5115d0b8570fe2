"""ONNX models, run by ONNX Runtime."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnxruntime as ort

from modelyard_runtime.engine.protocol import DTYPES, Model, TensorSpec
from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.tensors import as_text

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Array, Arrays

_DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_ERRORS_ONLY: Final = 3
_ONNX_BFLOAT16: Final = 16
"""``TensorProto.BFLOAT16``; ONNX Runtime knows it, its conversions from and to numpy do not."""


class OnnxModel(Model):
    """One ONNX Runtime session behind the engine protocol.

    Args:
        session: The session.
        path: Its file, for messages.
        device: ``cpu`` or ``cuda``.

    Raises:
        StartupError: ``InvalidArtifact``, for values that are not tensors of a known datatype.
    """

    format = "ONNX"
    platform = "onnx_onnxv1"

    def __init__(self, session: Any, path: Path, device: str) -> None:
        self._session = session
        self._run = session.run
        self.device = device
        self.inputs = tuple(_spec(node, path) for node in session.get_inputs())
        self.outputs = tuple(_spec(node, path) for node in session.get_outputs())
        self._words = any(spec.datatype == "BYTES" for spec in self.inputs)
        self._brain = any(spec.datatype == "BF16" for spec in (*self.inputs, *self.outputs))
        self._input_names = [spec.name for spec in self.inputs]
        self._output_names = [spec.name for spec in self.outputs]
        firsts = [_first_axis(node) for node in (*session.get_inputs(), *session.get_outputs())]
        named = {name for name in firsts if name != ""}
        self.batched = bool(self.inputs) and None not in firsts and len(named) <= 1
        self.max_rows: int | None = None

    def predict(self, inputs: Arrays) -> Arrays:
        """Run one forward pass.

        Args:
            inputs: C-contiguous arrays, one per input.

        Returns:
            One array per output.
        """
        if self._words:
            inputs = tuple(as_text(a) if a.dtype.kind == "O" else a for a in inputs)
        feed = dict(zip(self._input_names, inputs, strict=True))
        if self._brain:
            return self._predict_brain(feed)
        return tuple(self._run(self._output_names, feed))

    def _predict_brain(self, feed: dict[str, Array]) -> Arrays:
        values = {name: _ort_value(array) for name, array in feed.items()}
        outputs = self._session.run_with_ort_values(self._output_names, values)
        return tuple(_array(value) for value in outputs)


def _ort_value(array: Array) -> Any:
    if array.dtype == DTYPES["BF16"]:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
            array.view(np.uint16), _ONNX_BFLOAT16
        )
    return ort.OrtValue.ortvalue_from_numpy(array)


def _array(value: Any) -> Array:
    if value.data_type() != "tensor(bfloat16)":
        array: Array = value.numpy()
        return array
    buffer = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(bytearray(buffer), DTYPES["BF16"]).reshape(value.shape())


def load_onnx(path: Path, *, device: str, threads: int) -> OnnxModel:
    """Load an ONNX file.

    Args:
        path: The file; external data lies beside it.
        device: ``Auto``, ``CPU`` or ``CUDA``.
        threads: For one operator; operators never run beside each other.

    Returns:
        The model, batched when the first axis of every input and output is dynamic under one name.

    Raises:
        StartupError: ``InvalidArtifact`` or ``DeviceUnavailable``.
    """
    cuda = "CUDAExecutionProvider" in ort.get_available_providers()
    if device == "CUDA" and not cuda:
        raise StartupError(
            Reason.DEVICE_UNAVAILABLE,
            "CUDA is asked for and this ONNX Runtime has no CUDA provider",
            hint="Use an image with onnxruntime-gpu, or device: CPU.",
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    use_cuda = cuda and device != "CPU"
    providers = ["CPUExecutionProvider"]
    if use_cuda:
        providers.insert(0, "CUDAExecutionProvider")
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except MemoryError:
        raise
    except Exception as error:
        raise StartupError(
            Reason.INVALID_ARTIFACT,
            f"{path.name}: ONNX Runtime refuses it: {str(error).strip()[:300]}",
            hint="Check the file with onnx.checker.check_model and its opset with this runtime.",
        ) from error
    return OnnxModel(session, path, "cuda" if use_cuda else "cpu")


def _spec(node: Any, path: Path) -> TensorSpec:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise StartupError(
            Reason.INVALID_ARTIFACT,
            f"{path.name}: {node.name!r} is a {node.type}, which is not served",
            hint="Serve tensors only; for classifiers export with zipmap off.",
        )
    if node.shape is None:
        return TensorSpec(node.name, datatype, None)
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorSpec(node.name, datatype, shape)


def _first_axis(node: Any) -> str | None:
    """Name the dynamic dimension on the first axis; None when it is fixed or not there."""
    if not node.shape or isinstance(node.shape[0], int):
        return None
    return node.shape[0] or ""
