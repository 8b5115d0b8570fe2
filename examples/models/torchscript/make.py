"""Trace a module; new models are better exported (see ../torch-export)."""

from __future__ import annotations

from pathlib import Path

import torch

model = torch.nn.Linear(3, 2)
with torch.no_grad():
    model.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]))
    model.bias.zero_()
torch.jit.trace(model.eval(), torch.zeros(2, 3)).save(str(Path(__file__).parent / "model.pt"))
