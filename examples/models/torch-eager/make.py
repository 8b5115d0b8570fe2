"""Save the weights of the class in ``handler.py``, as a training script does."""

from __future__ import annotations

from pathlib import Path

import torch

torch.save({"weight": torch.tensor([2.0, 2.0, 2.0])}, Path(__file__).parent / "model.pt")
