"""MLServer's custom runtime around the model, one compute thread."""

from __future__ import annotations

import os

import numpy as np
import torch
from architectures import build
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Model(MLModel):
    """The hooks of MLServer."""

    async def load(self) -> bool:
        """Load."""
        torch.set_num_threads(1)
        self.model = build(os.environ["BENCH_MODEL"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a batch."""
        x = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        with torch.inference_mode():
            y = self.model(torch.from_numpy(x)).numpy()
        output = NumpyCodec.encode_output("output", y)
        return InferenceResponse(model_name=self.name, outputs=[output])
