"""BentoML with batches of up to 32, one worker, one compute thread."""

from __future__ import annotations

import os

import bentoml
import numpy as np
import torch
from architectures import build


@bentoml.service(workers=1, traffic={"timeout": 60}, metrics={"enabled": False})
class Model:
    """The service."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.model = build(os.environ["BENCH_MODEL"])

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=10000)
    def infer(self, data: np.ndarray) -> np.ndarray:
        """Answer a batch."""
        with torch.inference_mode():
            return self.model(torch.from_numpy(np.asarray(data, np.float32))).numpy()
