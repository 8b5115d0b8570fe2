"""MLflow models: folders with an ``MLmodel`` file that have the flavour ``python_function``."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelyard_runtime.engine.protocol import ANY, DATATYPES, DTYPES, Model, TensorSpec
from modelyard_runtime.errors import InferenceError, Reason, StartupError
from modelyard_runtime.tensors import as_text, datatype_of
from modelyard_runtime.values import ValueMismatchError, as_arrays

# It would send usage data, which a server of other people's models does not.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
import mlflow.models
import mlflow.pyfunc
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Array, Arrays

_COLUMNS: Final[Mapping[str, str]] = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
}
_WITHOUT_PICKLE: Final[Mapping[str, tuple[str, ...]]] = {
    "mlflow.xgboost": ("xgboost.core.Booster", "xgboost.sklearn."),
    "mlflow.lightgbm": ("lightgbm.basic.Booster",),
    "mlflow.onnx": ("",),
}
"""Loader → the classes that it makes without running code of the model's; all others are pickles."""


class MLflowModel(Model):
    """A ``pyfunc`` behind the engine protocol.

    Args:
        function: What ``mlflow.pyfunc.load_model`` gave.
        inputs: Its signature's inputs.
        columns: Whether it takes a table with these columns.

    Raises:
        StartupError: ``WarmupFailed``, when it does not predict from what its signature says.
    """

    format = "MLflow"
    platform = "mlflow"
    device = "cpu"

    def __init__(self, function: Any, inputs: tuple[TensorSpec, ...], *, columns: bool) -> None:
        self._function = function
        self._columns = columns
        self.inputs = inputs
        self.max_rows: int | None = None
        self.batched = all(spec.shape is not None and spec.shape[:1] == (-1,) for spec in inputs)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("output", ANY, None),)
        if all(spec.shape is not None for spec in inputs):
            self.outputs = self._learnt()

    def predict(self, inputs: Arrays) -> Arrays:
        """Predict.

        Args:
            inputs: One array per tensor of the signature, or one ``(rows,)`` per column.

        Returns:
            One array per output: per column where the model answers a table.

        Raises:
            InferenceError: It answers otherwise than it did when it was loaded.
        """
        answer = _named(self._function.predict(self._given(inputs)))
        try:
            return as_arrays(
                next(iter(answer.values())) if len(self.outputs) == len(answer) == 1 else answer,
                self.outputs,
            )
        except ValueMismatchError as error:
            raise InferenceError(f"the model answered something else: {error}") from error

    def _given(self, inputs: Arrays) -> Any:
        texts = [as_text(each) if each.dtype.kind == "O" else each for each in inputs]
        named = {spec.name: each for spec, each in zip(self.inputs, texts, strict=True)}
        if self._columns:
            return pd.DataFrame(named)
        return texts[0] if len(texts) == 1 else named

    def _learnt(self) -> tuple[TensorSpec, ...]:
        rows = 2
        made_up = tuple(
            np.full(
                [rows if n == -1 else n for n in spec.shape or ()],
                b"a" if spec.datatype == "BYTES" else 0,
                DTYPES[spec.datatype],
            )
            for spec in self.inputs
        )
        try:
            answer = _named(self._function.predict(self._given(made_up)))
            arrays = as_arrays(answer, [TensorSpec(name, ANY, None) for name in answer])
        except Exception as error:
            raise StartupError(
                Reason.WARMUP_FAILED,
                f"the model does not predict from what its signature says: "
                f"{type(error).__name__}: {str(error)[:300]}",
                hint="Log the model again with infer_signature(inputs, outputs).",
            ) from error
        return tuple(
            TensorSpec(name, datatype_of(array), _shape(array, rows if self.batched else -1))
            for name, array in zip(answer, arrays, strict=True)
        )


def load_mlflow(path: Path, *, allow_pickle: bool) -> MLflowModel:
    """Load what ``mlflow.<flavour>.save_model`` wrote.

    Args:
        path: The folder.
        allow_pickle: Whether flavours that run code while they load may load.

    Returns:
        The model; its inputs are those of its signature.

    Raises:
        StartupError: ``PickleNotAllowed``, ``InvalidArtifact`` or ``WarmupFailed``.

    References:
        MLflow documentation, "MLflow Models".
    """
    try:
        described = mlflow.models.Model.load(str(path))
    except Exception as error:
        raise _invalid(path, error) from error
    if not allow_pickle and not _is_data(described.flavors):
        loader = described.flavors.get("python_function", {}).get("loader_module", "nothing")
        raise StartupError(
            Reason.PICKLE_NOT_ALLOWED,
            f"{path.name} is loaded by {loader}, which runs code from the model",
            hint="Allow it for sources that you trust, or log the model with its native flavour.",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function = mlflow.pyfunc.load_model(str(path), suppress_warnings=True)
    except MemoryError:
        raise
    except Exception as error:
        raise _invalid(path, error) from error
    schema = described.get_input_schema()  # type: ignore[no-untyped-call]
    if schema is None:
        return MLflowModel(function, (TensorSpec("input", ANY, None),), columns=False)
    if schema.is_tensor_spec():
        return MLflowModel(function, tuple(_tensor(path, s) for s in schema.inputs), columns=False)
    return MLflowModel(function, tuple(_column(path, s) for s in schema.inputs), columns=True)


def _is_data(flavors: Mapping[str, Any]) -> bool:
    """Tell whether loading runs no code of the model's."""
    function = flavors.get("python_function", {})
    loader = str(function.get("loader_module"))
    native = flavors.get(loader.removeprefix("mlflow."), {})
    allowed = _WITHOUT_PICKLE.get(loader)
    if allowed is None or function.get("code") or native.get("code"):
        return False
    return str(native.get("model_class", allowed[0])).startswith(allowed)


def _tensor(path: Path, spec: Any) -> TensorSpec:
    dtype = np.dtype(spec.type)
    datatype = "BYTES" if dtype.kind in "USO" else DATATYPES.get(dtype)
    if datatype is None:
        raise _invalid(path, f"input {spec.name!r} is a {spec.type}, which is not served")
    return TensorSpec(spec.name or "input", datatype, tuple(int(size) for size in spec.shape))


def _column(path: Path, spec: Any) -> TensorSpec:
    kind = getattr(spec.type, "name", str(spec.type))
    datatype = _COLUMNS.get(kind)
    if datatype is None:
        raise _invalid(path, f"column {spec.name!r} is a {kind}, which is not served")
    return TensorSpec(str(spec.name), datatype, (-1,))


def _named(answer: Any) -> dict[str, Any]:
    """Put names to whatever a ``pyfunc`` returns."""
    if isinstance(answer, pd.DataFrame):
        return {str(name): answer[name].to_numpy() for name in answer.columns}
    if isinstance(answer, pd.Series):
        return {"output": answer.to_numpy()}
    if isinstance(answer, dict):
        return {str(name): value for name, value in answer.items()}
    return {"output": np.asarray(answer)}


def _shape(array: Array, rows: int) -> tuple[int, ...]:
    first = (-1,) if array.shape[:1] == (rows,) else array.shape[:1]
    return (*first, *array.shape[1:])


def _invalid(path: Path, problem: object) -> StartupError:
    text = f"{type(problem).__name__}: {problem}" if isinstance(problem, Exception) else problem
    return StartupError(
        Reason.INVALID_ARTIFACT,
        f"{path.name}: {str(text)[:300]}",
        hint="Check the folder with mlflow.pyfunc.load_model and the versions in its MLmodel.",
    )
