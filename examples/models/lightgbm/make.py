"""Train boosted trees on two measurements; three classes."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np

random = np.random.default_rng(0)
table = random.normal(size=(600, 2))
classes = (table[:, 0] > 0).astype(int) + (table[:, 1] > 0).astype(int)
options = {"objective": "multiclass", "num_class": 3, "seed": 0, "verbose": -1}
model = lightgbm.train(options, lightgbm.Dataset(table, label=classes), num_boost_round=10)
model.save_model(Path(__file__).parent / "model.txt")
