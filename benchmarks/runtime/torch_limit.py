"""The most that one thread of torch can do, without any server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import nn


def items_per_second(
    module: nn.Module, row: np.ndarray[Any, Any], *, batch: int, seconds: float = 4.0
) -> float:
    """Run a module in a loop.

    Args:
        module: For inference, on the CPU.
        row: ``(1, …)`` float32.
        batch: Rows in each call.
        seconds: For how long, after a few calls that do not count.

    Returns:
        Rows a second.
    """
    x = torch.from_numpy(np.repeat(row, batch, axis=0))
    with torch.inference_mode():
        for _ in range(3):
            module(x)
        calls, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            module(x)
            calls += 1
        return calls * batch / (time.perf_counter() - begun)
