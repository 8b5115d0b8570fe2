"""What a user says that a model takes and gives, held against what the artifact says."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime.engine.protocol import ANY, DTYPES, TensorSpec
from modelyard_runtime.errors import Reason, StartupError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelyard_runtime.config import ModelTensor
    from modelyard_runtime.engine.protocol import Model

_INVENTED: Final = re.compile(r"(input|output)(_\d+)?|predict(_proba)?")
"""Names that loaders give to tensors for which the artifact has none."""


def declare(model: Model, inputs: Sequence[ModelTensor], outputs: Sequence[ModelTensor]) -> None:
    """Complete a model's tensors by what the user declares.

    A model of which the artifact says nothing may be batched now: when every input's first axis is
    declared to be of any size. Warming proves it, or takes it back.

    Args:
        model: A loaded model; its ``inputs``, ``outputs`` and ``batched`` are changed.
        inputs: The declared inputs; empty declares nothing.
        outputs: The declared outputs; empty declares nothing.

    Raises:
        StartupError: ``SignatureMismatch``, naming the tensor, what is declared and what there is.
    """
    unknown = any(spec.shape is None for spec in model.inputs)
    if inputs:
        model.inputs = _completed("input", model.inputs, inputs)
    if outputs:
        model.outputs = _completed("output", model.outputs, outputs)
    if inputs:
        open_ended = all(
            spec.shape is not None and spec.shape[:1] == (-1,) for spec in model.inputs
        )
        counted = all(spec.shape is None or spec.shape[:1] == (-1,) for spec in model.outputs)
        model.batched = open_ended and counted and (model.batched or unknown)


def as_specs(declared: Sequence[ModelTensor]) -> tuple[TensorSpec, ...]:
    """Turn declarations into what the engine protocol calls tensors.

    Args:
        declared: What the user says.

    Returns:
        The same.
    """
    return tuple(
        TensorSpec(each.name, each.dtype, each.shape, fill=_fill(each), labels=each.labels)
        for each in declared
    )


def _fill(tensor: ModelTensor) -> float | bool | str | None:
    if not tensor.optional:
        return None
    if tensor.pad_value is None:
        return "" if tensor.dtype == "BYTES" else 0
    return tensor.pad_value


def _completed(
    kind: str, found: Sequence[TensorSpec], declared: Sequence[ModelTensor]
) -> tuple[TensorSpec, ...]:
    if len(found) != len(declared):
        raise _mismatch(
            f"{len(declared)} {kind}s are declared ({_names(declared)}), "
            f"the artifact has {len(found)} ({_names(found)})"
        )
    by_name = {each.name: each for each in declared}
    if all(spec.name in by_name for spec in found):
        return tuple(_one(kind, spec, by_name[spec.name]) for spec in found)
    for spec, each in zip(found, declared, strict=True):
        if spec.name != each.name and not _INVENTED.fullmatch(spec.name):
            raise _mismatch(
                f"{kind}s {_names(declared)} are declared, the artifact has {_names(found)}"
            )
    return tuple(_one(kind, spec, each) for spec, each in zip(found, declared, strict=True))


def _one(kind: str, spec: TensorSpec, declared: ModelTensor) -> TensorSpec:
    what = f"{kind} {declared.name!r}"
    if spec.datatype not in {declared.dtype, ANY}:
        numeric = DTYPES[declared.dtype].kind in "iuf"
        if not (spec.casts and numeric):
            raise _mismatch(f"{what}: declared {declared.dtype}, the artifact has {spec.datatype}")
    shape = declared.shape
    if spec.shape is not None:
        fits = len(shape) == len(spec.shape) and all(
            _size_fits(kind, want, has) for want, has in zip(shape, spec.shape, strict=True)
        )
        if not fits:
            raise _mismatch(
                f"{what}: declared shape {list(shape)}, the artifact has {list(spec.shape)}"
            )
        shape = tuple(
            has if want == -1 else want for want, has in zip(shape, spec.shape, strict=True)
        )
    return replace(
        spec,
        name=declared.name,
        datatype=declared.dtype,
        shape=shape,
        fill=_fill(declared),
        labels=declared.labels or spec.labels,
    )


def _size_fits(kind: str, declared: int, found: int) -> bool:
    """An input may not promise to take any size where the artifact takes one."""
    return found in {declared, -1} or (declared == -1 and kind == "output")


def _names(tensors: Sequence[Any]) -> str:
    return ", ".join(repr(each.name) for each in tensors) or "none"


def _mismatch(problem: str) -> StartupError:
    return StartupError(
        Reason.SIGNATURE_MISMATCH,
        problem,
        hint="Declare what the artifact has, or leave inputs and outputs out.",
    )
