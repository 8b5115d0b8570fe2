"""The first real inference, and the proof that rows of different callers may meet in a batch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.memory import is_out_of_memory

if TYPE_CHECKING:
    from modelyard_runtime.engine.protocol import Array, Arrays, Model, TensorSpec

_log = structlog.stdlib.get_logger(__name__)

_OPEN_SIZES: Final = (1, 16, 64, 224)
"""What is tried for an inner dimension that the artifact leaves open."""
_TOLERANCE: Final = {2: 2e-2, 4: 1e-3, 8: 1e-6}
"""Item size of a float in bytes → relative and absolute tolerance between batch sizes."""


@dataclass(frozen=True, slots=True)
class Warmth:
    """What warming found out.

    Attributes:
        outputs: The answer to one row; None when no inference could be made up.
        batched: Whether rows do not depend on one another.
        forward_s: Time of a full batch, in seconds; None when it was not measured.
    """

    outputs: Arrays | None
    batched: bool
    forward_s: float | None


def warm(model: Model, *, max_rows: int) -> Warmth:
    """Run the model before anyone waits for it.

    One row of zeros must succeed. A model that declares a batch axis then answers random rows both
    alone and together, and batches only if the answers agree: an axis that merely looks like one
    (the time axis of a recurrent model, say) would mix callers without an error.

    A model whose artifact does not say what it takes (TorchScript) cannot be run before the first
    request; where inner dimensions are open, a few sizes are tried, and the model turns ready
    without an inference if it refuses them all.

    Args:
        model: A loaded model.
        max_rows: Rows of a full batch.

    Returns:
        What was found out.

    Raises:
        StartupError: ``WarmupFailed``, or ``OutOfMemory``.
    """
    if any(spec.shape is None or spec.datatype not in DTYPES for spec in model.inputs):
        _log.warning("the artifact declares no shapes, ready without a first inference")
        return Warmth(None, batched=False, forward_s=None)
    open_inner = any(-1 in (spec.shape or ())[1:] for spec in model.inputs)
    problem: Exception | None = None
    for size in _OPEN_SIZES if open_inner else _OPEN_SIZES[:1]:
        try:
            outputs = model.predict(_zeros(model, size))
        except Exception as error:
            if is_out_of_memory(error):
                raise _failed(Reason.OUT_OF_MEMORY, error) from error
            problem = error
            continue
        if not model.batched:
            return Warmth(outputs, batched=False, forward_s=None)
        agrees, forward_s = _try_batch(model, rows=max_rows, size=size)
        return Warmth(outputs, batched=agrees, forward_s=None if open_inner else forward_s)
    if open_inner:
        _log.warning("no made-up input fits, ready without a first inference", error=str(problem))
        return Warmth(None, batched=False, forward_s=None)
    raise _failed(Reason.WARMUP_FAILED, problem) from problem


def _try_batch(model: Model, *, rows: int, size: int) -> tuple[bool, float | None]:
    """Compare random rows answered together with the same rows answered alone."""
    if rows == 1:
        return True, None
    random = np.random.default_rng(0)
    batch = tuple(_random(spec, rows, size, random) for spec in model.inputs)
    try:
        together = model.predict(tuple(array.copy() for array in batch))
        for row in (0, rows - 1):
            alone = model.predict(tuple(array[row : row + 1].copy() for array in batch))
            for many, one in zip(together, alone, strict=True):
                if many.shape[:1] != (rows,) or not _close(many[row : row + 1], one):
                    _log.warning("rows depend on their neighbours, requests run one by one")
                    return False, None
        forward_s = min(_timed(model, batch) for _ in range(3))
    except Exception as error:  # noqa: BLE001 - a batch that fails is a model without batches
        _log.warning("a full batch fails, requests run one by one", error=str(error)[:300])
        return False, None
    return True, forward_s


def _timed(model: Model, batch: Arrays) -> float:
    started = time.perf_counter()
    model.predict(tuple(array.copy() for array in batch))
    return time.perf_counter() - started


def _close(left: Array, right: Array) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind != "f":
        return bool((left == right).all())
    tolerance = _TOLERANCE[left.dtype.itemsize]
    return np.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)


def _sizes(spec: TensorSpec, rows: int, size: int, *, batched: bool) -> tuple[int, ...]:
    first, *inner = spec.shape or (1,)
    if batched or first == -1:
        first = rows
    return (first, *(size if n == -1 else n for n in inner)) if spec.shape else ()


def _zeros(model: Model, size: int) -> Arrays:
    return tuple(
        np.full(_sizes(spec, 1, size, batched=model.batched), _zero(spec), DTYPES[spec.datatype])
        for spec in model.inputs
    )


def _zero(spec: TensorSpec) -> str | int:
    return "a" if spec.datatype == "BYTES" else 0


def _random(spec: TensorSpec, rows: int, size: int, random: np.random.Generator) -> Array:
    shape = _sizes(spec, rows, size, batched=True)
    dtype = DTYPES[spec.datatype]
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    bits = random.integers(0, 2, shape)  # 0 and 1 are valid in every vocabulary
    return np.where(bits, "b", "a").astype(dtype) if dtype.kind == "O" else bits.astype(dtype)


def _failed(reason: Reason, error: Exception | None) -> StartupError:
    return StartupError(
        reason,
        f"the model loads, but a first inference fails: {type(error).__name__}: "
        f"{str(error).strip()[:400]}",
        hint="The input was made up from the shapes that the artifact declares.",
    )
