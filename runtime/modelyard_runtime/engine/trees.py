"""What boosted trees have in common: one table in, classes with probabilities or one value out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from modelyard_runtime.engine.protocol import Model, TensorSpec
from modelyard_runtime.tensors import datatype_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.engine.protocol import Array, Arrays

_HALF: Final = 0.5


class TreesModel(Model):
    """A booster behind the engine protocol.

    Classifiers answer like scikit-learn's: ``predict`` is the position of the likeliest class,
    ``predict_proba`` has a column for each class. Others answer ``predict`` alone.

    Args:
        kind: ``format`` and ``platform``.
        call: Table ``(rows, features)`` → what the library predicts.
        features: Columns of the table.
        datatype: What the library computes in: ``FP32`` or ``FP64``.
        classes: Number of classes; 0 for what is no classifier.
    """

    device = "cpu"

    def __init__(
        self,
        kind: tuple[str, str],
        call: Callable[[Array], Array],
        *,
        features: int,
        datatype: str,
        classes: int,
    ) -> None:
        self.format, self.platform = kind
        self._call = call
        self._classes = classes
        self.batched = True
        self.max_rows: int | None = None
        self.inputs: tuple[TensorSpec, ...] = (
            TensorSpec("input", datatype, (-1, features), casts=True),
        )
        table = np.zeros((2, features), np.float32 if datatype == "FP32" else np.float64)
        names = ("predict", "predict_proba")
        self.outputs: tuple[TensorSpec, ...] = tuple(
            TensorSpec(name, datatype_of(array), (-1, *array.shape[1:]))
            for name, array in zip(names, self.predict((table,)), strict=False)
        )

    def predict(self, inputs: Arrays) -> Arrays:
        """Predict for a table.

        Args:
            inputs: One array ``(rows, features)``; NaN is a missing value.

        Returns:
            For classifiers ``predict`` of shape ``(rows,)`` and ``predict_proba`` of shape
            ``(rows, classes)``; else ``predict`` of shape ``(rows,)`` or ``(rows, targets)``.
        """
        answer = self._call(inputs[0])
        if not self._classes:
            return (answer,)
        if answer.ndim == 1:  # the probability of the second of two classes
            return (answer > _HALF).astype(np.int64), np.stack((1 - answer, answer), axis=1)
        return answer.argmax(axis=1), answer
