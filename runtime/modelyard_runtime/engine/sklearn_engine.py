"""scikit-learn estimators, from joblib or pickle files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import joblib
import numpy as np

from modelyard_runtime.engine.protocol import DTYPES, Model, TensorSpec
from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.tensors import as_text, datatype_of

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Arrays


class SklearnModel(Model):
    """One fitted estimator behind the engine protocol.

    Args:
        estimator: Has ``predict``; ``predict_proba`` becomes a second output.
        features: Columns that it was fitted on; None when it does not say.

    Raises:
        StartupError: ``WarmupFailed``, when it predicts neither from numbers nor, behind an encoder, from
            strings.
    """

    format = "Sklearn"
    platform = "sklearn"
    device = "cpu"

    def __init__(self, estimator: Any, features: int | None) -> None:
        self._estimator = estimator
        self._probabilities = hasattr(estimator, "predict_proba")
        self._words = _known_words(estimator)
        self.batched = True
        self.max_rows: int | None = None
        datatype, answer = self._try_out(features or 1)
        names = ("predict", "predict_proba")
        self.inputs: tuple[TensorSpec, ...] = (
            TensorSpec("input", datatype, (-1, features or -1), casts=datatype == "FP64"),
        )
        self.outputs: tuple[TensorSpec, ...] = tuple(
            TensorSpec(name, datatype_of(array), (-1, *array.shape[1:]))
            for name, array in zip(names, answer, strict=False)
        )

    def predict(self, inputs: Arrays) -> Arrays:
        """Predict for a table.

        Args:
            inputs: One array ``(rows, features)``, float64 or strings.

        Returns:
            ``predict`` of shape ``(rows,)`` or ``(rows, targets)``, and where the estimator knows
            probabilities ``predict_proba`` of shape ``(rows, classes)``.
        """
        table = as_text(inputs[0]) if inputs[0].dtype.kind == "O" else inputs[0]
        labels = np.asarray(self._estimator.predict(table))
        if not self._probabilities:
            return (labels,)
        return labels, np.asarray(self._estimator.predict_proba(table))

    def example(self) -> Arrays | None:
        """Give a row of words that the encoder in front knows.

        Returns:
            One array ``(1, features)``; None for numbers.
        """
        if self._words is None:
            return None
        return (np.array([[word.encode() for word in self._words]], dtype=DTYPES["BYTES"]),)

    def _try_out(self, features: int) -> tuple[str, Arrays]:
        """Predict once: an estimator declares neither what it takes nor what it gives."""
        datatype, table = "FP64", np.zeros((2, features), dtype=DTYPES["FP64"])
        if self._words is not None:
            words = [word.encode() for word in self._words]
            datatype, table = "BYTES", np.array([words, words], dtype=DTYPES["BYTES"])
        try:
            given = table if self._words is None else as_text(table)
            if self._probabilities and isinstance(self._estimator.predict_proba(given), list):
                self._probabilities = False  # one table per target; the protocol has no such
            return datatype, self.predict((table,))
        except Exception as error:
            raise StartupError(
                Reason.WARMUP_FAILED,
                f"the estimator does not predict from a table of {datatype}: "
                f"{type(error).__name__}: {str(error)[:300]}",
                hint="Fit it on an array of numbers or of strings, without column names.",
            ) from error


def _known_words(estimator: Any) -> list[str] | None:
    """Return a row of strings that an encoder in front was fitted on; None for numbers."""
    steps = getattr(estimator, "steps", None)
    first = steps[0][1] if steps else estimator
    categories = getattr(first, "categories_", None)
    if not isinstance(categories, list) or any(c.dtype.kind not in "OU" for c in categories):
        return None
    return [str(column[0]) for column in categories]


def load_sklearn(path: Path) -> SklearnModel:
    """Load a joblib or pickle file. This runs code from the file.

    Args:
        path: The file.

    Returns:
        The model.

    Raises:
        StartupError: ``InvalidArtifact`` or ``WarmupFailed``.
    """
    try:
        estimator = joblib.load(path)
    except MemoryError:
        raise
    except Exception as error:
        raise StartupError(
            Reason.INVALID_ARTIFACT,
            f"{path.name}: joblib refuses it: {type(error).__name__}: {str(error)[:300]}",
            hint="Save the fitted estimator with joblib.dump and the same scikit-learn version.",
        ) from error
    if not hasattr(estimator, "predict"):
        raise StartupError(
            Reason.INVALID_ARTIFACT,
            f"{path.name} holds a {type(estimator).__name__}, which cannot predict",
            hint="Save a fitted estimator or pipeline.",
        )
    return SklearnModel(estimator, getattr(estimator, "n_features_in_", None))
