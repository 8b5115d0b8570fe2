"""TorchScript models."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from modelyard_runtime.engine.protocol import ANY, TensorSpec
from modelyard_runtime.engine.torch_engine import (
    Flat,
    TorchModel,
    brief,
    invalid_artifact,
    require_dtype,
)

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard_runtime.engine.torch_engine import Placement
    from modelyard_runtime.errors import StartupError


def load_script(path: Path, placement: Placement) -> TorchModel:
    """Load what ``torch.jit.save`` wrote.

    A script says neither shapes nor datatypes, so it takes any, and is not batched: rows of two
    callers may only meet on an axis that is known to count rows. Declared inputs say that it does.

    Args:
        path: A TorchScript file.
        placement: Where to run.

    Returns:
        The model, its inputs named like the arguments of ``forward``.

    Raises:
        StartupError: ``InvalidArtifact``.
    """
    with warnings.catch_warnings():
        # torch calls TorchScript deprecated; those who have such files know.
        warnings.simplefilter("ignore")
        try:
            module = torch.jit.load(str(path), map_location=placement.device).eval()  # type: ignore[no-untyped-call]
            arguments = module.forward.schema.arguments[1:]
        except Exception as error:
            raise _invalid(path, f"torch.jit.load refuses it: {brief(error)}") from error
    wrong = [a.name for a in arguments if str(a.type) != "Tensor" and not a.has_default_value()]
    if wrong:
        raise _invalid(path, f"argument {wrong[0]!r} of forward is not a tensor")
    names = [a.name for a in arguments if str(a.type) == "Tensor"]
    outputs = _outputs(path, module)
    require_dtype(path, module, placement)
    return TorchModel(
        Flat(module, positional=len(names)),
        tuple(TensorSpec(name, ANY, None) for name in names),
        tuple(TensorSpec(name, ANY, None) for name in outputs),
        kind=("TorchScript", "pytorch_torchscript"),
        placement=placement,
    )


def _outputs(path: Path, module: Any) -> list[str]:
    returned = module.forward.schema.returns[0].type
    if str(returned) == "Tensor":
        return ["output"]
    elements = returned.elements() if returned.kind() == "TupleType" else []
    if elements and all(str(element) == "Tensor" for element in elements):
        return [f"output_{at}" for at in range(len(elements))]
    raise _invalid(path, f"forward must return a tensor or a tuple of tensors, not {returned}")


def _invalid(path: Path, why: str) -> StartupError:
    return invalid_artifact(
        path, why, hint="Save the model again with torch.jit.save and check it with torch.jit.load."
    )
