"""The class that the saved weights belong to."""

from __future__ import annotations

import torch


class Doubler(torch.nn.Module):
    """``y = x · weight``; the arguments come from ``kwargs`` of ``model.yaml``.

    Args:
        features: Columns of ``x``.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply.

        Args:
            x: ``(rows, features)``.

        Returns:
            ``(rows, features)``.
        """
        return x * self.weight
