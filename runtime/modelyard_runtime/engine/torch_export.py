"""Exported programs: what ``torch.export.save`` wrote."""

from __future__ import annotations

import os
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog
import torch

from modelyard_runtime.engine.protocol import TensorSpec
from modelyard_runtime.engine.torch_engine import (
    Flat,
    TorchModel,
    brief,
    invalid_artifact,
    require_dtype,
)
from modelyard_runtime.engine.torch_program import read_program
from modelyard_runtime.engine.torch_tensors import DATATYPE_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from modelyard_runtime.engine.torch_engine import Placement
    from modelyard_runtime.errors import StartupError

_log = structlog.stdlib.get_logger(__name__)

_WEIGHTS_ONLY: Final = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_PICKLED: Final = "/data/constants/opaque_obj_"
"""What torch's archive calls Python objects, which it unpickles."""


def load_export(path: Path, placement: Placement) -> TorchModel:
    """Load what ``torch.export.save`` wrote.

    Args:
        path: A ``.pt2`` file.
        placement: Where to run.

    Returns:
        The model, its inputs and outputs taken from the program's call spec. It is batched when the
        first axis of every input and output is one and the same dynamic dimension.

    Raises:
        StartupError: ``InvalidArtifact``.

    References:
        ``torch.export`` documentation, "ExportedProgram" and "Expressing Dynamism".
    """
    try:
        module, signature = read_program(path, placement.device)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - torch's own loader has the last word
        _log.info("reading with torch's own loader, which is slow", why=brief(error))
        return _load_slowly(path, placement)
    require_dtype(path, module, placement)
    model = TorchModel(
        Flat(module, positional=len(signature.inputs)),
        signature.inputs,
        signature.outputs,
        kind=("TorchExport", "pytorch_export"),
        placement=placement,
    )
    model.batched, model.max_rows = signature.batched, signature.max_rows
    if not signature.sizes.trivial:
        model.check = signature.sizes.check
    return model


def _load_slowly(path: Path, placement: Placement) -> TorchModel:
    """Load through ``torch.export.load``, which knows everything and imports torch's compiler."""
    program = _read_export(path)
    if program.call_spec.in_spec is not None and _nested(program.call_spec.in_spec):
        raise _invalid(path, "its inputs are nested; each must be a tensor")
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    signature = program.graph_signature
    inputs: list[tuple[str, Any]] = [
        (str(name), values.get(str(name))) for name in signature.user_inputs
    ]
    outputs: list[Any] = [values.get(str(name)) for name in signature.user_outputs]
    if not all(isinstance(v, torch.Tensor) for v in (*dict(inputs).values(), *outputs)):
        raise _invalid(path, "an input or output is not a tensor")
    names = _output_names(program.call_spec.out_spec, len(outputs))
    model = TorchModel(
        _flat(path, program, placement),
        tuple(_spec(path, name, value) for name, value in inputs),
        tuple(_spec(path, name, value) for name, value in zip(names, outputs, strict=True)),
        kind=("TorchExport", "pytorch_export"),
        placement=placement,
    )
    firsts = {_first_axis(value) for value in (*dict(inputs).values(), *outputs)}
    model.batched = len(firsts) == 1 and None not in firsts
    if model.batched:
        model.max_rows = _upper_bound(program, inputs[0][1])
    return model


def _read_export(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        pickled = [name for name in names if _PICKLED in name]
        program = None
        if not pickled:
            with _without_pickle():
                program = torch.export.load(path)
    except Exception as error:
        raise _invalid(path, f"torch.export.load refuses it: {brief(error)}") from error
    if program is None:
        raise _invalid(path, f"it holds a pickled object ({pickled[0].rpartition('/')[2]})")
    return program


@contextmanager
def _without_pickle() -> Iterator[None]:
    """Keep torch from unpickling what is no plain tensor: a model file is data, and never code."""
    before = os.environ.get(_WEIGHTS_ONLY)
    os.environ[_WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_WEIGHTS_ONLY]
        else:
            os.environ[_WEIGHTS_ONLY] = before


def _flat(path: Path, program: Any, placement: Placement) -> Flat:
    module = program.module().to(placement.device)
    require_dtype(path, module, placement)
    args, kwargs = program.call_spec.in_spec.children()
    return Flat(_Leaves(module), positional=args.num_children, keywords=tuple(kwargs.context))


class _Leaves(torch.nn.Module):
    """A program whose answer may be nested: its tensors in the order of the call spec."""

    def __init__(self, program: torch.nn.Module) -> None:
        super().__init__()
        self.program = program
        self.training = False

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answer = self.program(*args, **kwargs)
        if isinstance(answer, torch.Tensor):
            return (answer,)
        leaves = torch.utils._pytree.tree_leaves(answer)  # noqa: SLF001 - torch.export documents out_spec in its terms
        return tuple(leaves)


def _nested(in_spec: Any) -> bool:
    return any(not leaf.is_leaf() for group in in_spec.children() for leaf in group.children())


def _output_names(out_spec: Any, count: int) -> list[str]:
    if out_spec.type is dict:
        return [str(key) for key in out_spec.context]
    return ["output"] if count == 1 else [f"output_{at}" for at in range(count)]


def _spec(path: Path, name: str, value: torch.Tensor) -> TensorSpec:
    datatype = DATATYPE_NAMES.get(value.dtype)
    if datatype is None:
        raise _invalid(path, f"tensor {name!r} has dtype {value.dtype}, which is not served")
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(name, datatype, shape)


def _first_axis(value: torch.Tensor) -> str | None:
    """Name the dynamic dimension on the first axis; None when it is fixed."""
    if value.ndim == 0 or isinstance(value.shape[0], int):
        return None
    return str(value.shape[0])


def _upper_bound(program: Any, value: torch.Tensor) -> int | None:
    for symbol, bounds in program.range_constraints.items():
        if str(symbol) == str(value.shape[0]):
            try:
                return int(bounds.upper)
            except (TypeError, ValueError, OverflowError, AttributeError):
                return None
    return None


def _invalid(path: Path, why: str) -> StartupError:
    return invalid_artifact(
        path,
        why,
        hint="Export the model again with torch.export.save and check it with torch.export.load.",
    )
