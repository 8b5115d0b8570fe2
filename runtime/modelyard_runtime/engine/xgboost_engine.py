"""XGBoost models, from what ``Booster.save_model`` wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xgboost

from modelyard_runtime.engine.trees import TreesModel
from modelyard_runtime.errors import Reason, StartupError

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Array

_BINARY: Final = "binary:logistic"
_SOFTMAX: Final = "multi:softmax"
_SOFTPROB: Final = "multi:softprob"


def load_xgboost(path: Path, threads: int) -> TreesModel:
    """Load a ``.ubj`` or ``.json`` file. No code runs from it.

    Args:
        path: The file.
        threads: Threads of one prediction.

    Returns:
        The model; classifiers give probabilities.

    Raises:
        StartupError: ``InvalidArtifact``.

    References:
        XGBoost documentation, "Introduction to Model IO".
    """
    try:
        booster = xgboost.Booster(model_file=str(path))
        booster.set_param({"nthread": threads})
        learner = json.loads(booster.save_config())["learner"]
        features = booster.num_features()
    except (xgboost.core.XGBoostError, ValueError, KeyError) as error:
        problem = str(error).strip().splitlines()[0][:300]
        raise StartupError(
            Reason.INVALID_ARTIFACT,
            f"{path.name}: XGBoost refuses it: {problem}",
            hint="Save the model with booster.save_model('model.ubj').",
        ) from error
    objective = learner["objective"]["name"]
    classes = _classes(objective, learner)
    if objective == _SOFTMAX:
        booster.set_param({"objective": _SOFTPROB})  # the same trees, and what they are sure of

    def call(table: Array) -> Array:
        answer: Array = np.asarray(booster.inplace_predict(table, missing=np.nan))
        return answer

    return TreesModel(
        ("XGBoost", "xgboost_booster"), call, features=features, datatype="FP32", classes=classes
    )


def _classes(objective: str, learner: Any) -> int:
    if objective == _BINARY and learner["learner_model_param"].get("num_target", "1") == "1":
        return 2
    if objective in {_SOFTMAX, _SOFTPROB}:
        return int(learner["learner_model_param"]["num_class"])
    return 0
