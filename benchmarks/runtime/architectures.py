"""The two models that are measured: M1, a small MLP, and M2, a small residual network."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

SHAPES: Final[dict[str, tuple[int, ...]]] = {"m1": (128,), "m2": (3, 64, 64)}
"""Model → shape of one row, float32."""


class Mlp(nn.Sequential):
    """M1: 128-256-256-10."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        )


class _Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(),
            nn.Conv2d(outer, outer, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outer),
        )
        self.around = (
            nn.Identity()
            if stride == 1 and inner == outer
            else nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(n, outer, h / stride, w / stride)`` for ``(n, inner, h, w)``."""
        return torch.relu(self.main(x) + self.around(x))


class ResNet18(nn.Sequential):
    """M2: the 18-layer residual network of He et al. (2015) for 3x64x64 images, ten classes."""

    def __init__(self) -> None:
        widths = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        blocks: list[nn.Module] = []
        for inner, outer, stride in widths:
            blocks += [_Block(inner, outer, stride), _Block(outer, outer, 1)]
        super().__init__(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(512, 10),
        )


def build(name: str) -> nn.Module:
    """Make a model with random weights that are the same everywhere.

    Args:
        name: ``m1`` or ``m2``.

    Returns:
        The module, for inference.
    """
    torch.manual_seed(0)
    return (Mlp() if name == "m1" else ResNet18()).eval()
