"""Save the weights of the class in ``handler.py`` as safetensors."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

scores = torch.tensor([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]])
save_file({"score.weight": scores}, Path(__file__).parent / "model.safetensors")
