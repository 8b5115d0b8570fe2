"""Train boosted trees, and log them as an MLflow model with its signature."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow.xgboost
import numpy as np
import pandas as pd
import xgboost
from mlflow.models import infer_signature

random = np.random.default_rng(0)
table = pd.DataFrame(random.uniform(0, 10, size=(500, 2)), columns=["width", "height"])
large = table["width"] * table["height"] > table["width"].mean() ** 2
model = xgboost.XGBRegressor(n_estimators=20, random_state=0).fit(table, large)

folder = Path(__file__).parent / "model"
shutil.rmtree(folder, ignore_errors=True)
# Its native flavour and format: nothing that runs code while it is loaded.
mlflow.xgboost.save_model(
    model,
    str(folder),
    signature=infer_signature(table, model.predict(table)),
    model_format="ubj",
    pip_requirements=["xgboost"],
)
