"""Export a module with a batch axis of any size."""

from __future__ import annotations

from pathlib import Path

import torch


class Sum(torch.nn.Module):
    """Adds the values of each row up."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Add up.

        Args:
            x: ``(rows, 3)``.

        Returns:
            ``total``: ``(rows,)``.
        """
        return {"total": x.sum(dim=1)}


rows = torch.export.Dim("rows", min=1, max=1024)
program = torch.export.export(Sum().eval(), (torch.zeros(2, 3),), dynamic_shapes={"x": {0: rows}})
torch.export.save(program, Path(__file__).parent / "model.pt2")
