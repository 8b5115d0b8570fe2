"""LightGBM models, from what ``Booster.save_model`` wrote."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import lightgbm
import numpy as np

from modelyard_runtime.engine.trees import TreesModel
from modelyard_runtime.errors import Reason, StartupError

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Array

_BINARY: Final = "binary"
_SEVERAL: Final = frozenset({"multiclass", "multiclassova"})


def load_lightgbm(path: Path, threads: int) -> TreesModel:
    """Load a text file. No code runs from it.

    Args:
        path: The file.
        threads: Threads of one prediction.

    Returns:
        The model; classifiers give probabilities.

    Raises:
        StartupError: ``InvalidArtifact``.

    References:
        LightGBM documentation, "lightgbm.Booster".
    """
    try:
        # It would print to stdout, between the lines of the log.
        lightgbm.register_logger(logging.getLogger(__name__))
        booster = lightgbm.Booster(model_file=str(path))
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise StartupError(
            Reason.INVALID_ARTIFACT,
            f"{path.name}: LightGBM refuses it: {str(error)[:300]}",
            hint="Save the model with booster.save_model('model.txt').",
        ) from error
    objective = str(booster.params.get("objective", ""))
    classes = 2 if objective == _BINARY else 0
    if objective in _SEVERAL:
        classes = booster.num_model_per_iteration()

    def call(table: Array) -> Array:
        answer: Array = np.asarray(booster.predict(table, num_threads=threads))
        return answer

    return TreesModel(
        ("LightGBM", "lightgbm_booster"),
        call,
        features=booster.num_feature(),
        datatype="FP64",
        classes=classes,
    )
