"""Arrays of the runtime ↔ tensors of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from modelyard_runtime.engine.protocol import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.engine.protocol import Array

TORCH_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "UINT16": torch.uint16,
    "UINT32": torch.uint32,
    "UINT64": torch.uint64,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "FP16": torch.float16,
    "BF16": torch.bfloat16,
    "FP32": torch.float32,
    "FP64": torch.float64,
}
"""Open Inference Protocol datatype → torch dtype; torch has no strings."""
DATATYPE_NAMES: Final[Mapping[torch.dtype, str]] = {
    dtype: name for name, dtype in TORCH_DTYPES.items()
}
_BF16: Final = DTYPES["BF16"]


def as_tensor(array: Array) -> torch.Tensor:
    """View an array as a tensor on the CPU.

    Args:
        array: Any shape, writable, of a dtype that torch has.

    Returns:
        A tensor that shares the array's memory; bfloat16, which numpy knows by name only, too.
    """
    if array.dtype == _BF16:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def as_array(tensor: torch.Tensor) -> Array:
    """View a tensor as an array in host memory.

    Args:
        tensor: Dense, any shape, on any device.

    Returns:
        An array; it shares the memory of a tensor on the CPU.
    """
    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:
        bits: Array = tensor.view(torch.uint16).numpy()
        return bits.view(_BF16)
    array: Array = tensor.numpy()
    return array
