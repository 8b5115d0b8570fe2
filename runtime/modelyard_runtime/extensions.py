"""The protocol extensions that work here, as every protocol announces them."""

from __future__ import annotations

from typing import Final

EXTENSIONS: Final = (
    "binary_tensor_data",
    "classification",
    "generate",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
