"""Train boosted trees on two measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xgboost

random = np.random.default_rng(0)
table = random.normal(size=(200, 2))
data = xgboost.DMatrix(table, label=(table[:, 0] > table[:, 1]).astype(int))
model = xgboost.train({"objective": "binary:logistic", "seed": 0}, data, num_boost_round=10)
model.save_model(Path(__file__).parent / "model.ubj")
