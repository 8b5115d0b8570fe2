"""The first real inference, and the proof that rows of different callers may meet in a batch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.memory import is_out_of_memory
from modelyard_runtime.tensors import not_finite

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def warm(
    model: Model,
    *,
    max_rows: int,
    buckets: Sequence[int] = (),
    iterations: int = 1,
    optimize: str = "Off",
    lengths: Sequence[int] = (),
) -> Warmth:
    """Run the model before anyone waits for it.

    One row must succeed, and give finite numbers: of zeros, or of random numbers where zeros alone
    divide by zero. A model that declares a batch axis then answers random rows both alone and
    together, and batches only if the answers agree: an axis that merely looks like one (the time
    axis of a recurrent model, say) would mix callers without an error. At last batches of every
    size that will be run are run.

    A model whose artifact does not say what it takes (TorchScript) cannot be run before the first
    request; where inner dimensions are open, a few sizes are tried, and the model turns ready
    without an inference if it refuses them all.

    Args:
        model: A loaded model.
        max_rows: Rows of a full batch.
        buckets: Rows of the batches that will be run; empty: any number.
        iterations: How often each is run.
        optimize: ``Auto`` lets the model try what makes it faster, ``Off`` only what is asked for.
        lengths: What sequences are padded to, ascending; each is run. Empty: there are none.

    Returns:
        What was found out.

    Raises:
        StartupError: ``WarmupFailed``, or ``OutOfMemory``.
    """
    if any(spec.shape is None or spec.datatype not in DTYPES for spec in model.inputs):
        _log.warning("the artifact declares no shapes, ready without a first inference")
        return Warmth(None, batched=False, forward_s=None)
    open_inner = any(-1 in (spec.shape or ())[1:] for spec in model.inputs)
    found = _first_fit(model, (lengths or _OPEN_SIZES) if open_inner else _OPEN_SIZES[:1])
    if isinstance(found, Exception):
        if not open_inner:
            raise _failed(Reason.WARMUP_FAILED, found) from found
        _log.warning("no made-up input fits, ready without a first inference", error=str(found))
        return Warmth(None, batched=False, forward_s=None)
    size, row, outputs = found
    batched = model.batched and _rows_agree(model, rows=max_rows, size=size)
    full = max_rows if batched else 1
    model.optimize(partial(_samples, model, size, max_rows=full), mode=optimize)
    sizes = sorted({1, *(n for n in buckets if n <= full), full})
    forward_s = [_run(model, row, n, iterations) for n in sizes]
    for length in (each for each in lengths if each > size):
        _run_length(model, length, sizes, iterations)
    measured = full > 1 and not open_inner
    return Warmth(outputs, batched=batched, forward_s=forward_s[-1] if measured else None)


def _first_fit(model: Model, sizes: Sequence[int]) -> tuple[int, Arrays, Arrays] | Exception:
    """Find an inner size that the model takes, one row of it and the answer; else the last error."""
    problem: Exception = ValueError("there is no size to try")
    for size in sizes:
        try:
            return size, *_first_answer(model, size)
        except StartupError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise _failed(Reason.OUT_OF_MEMORY, error) from error
            problem = error
    return problem


def _first_answer(model: Model, size: int) -> tuple[Arrays, Arrays]:
    """Find one row that is answered with finite numbers, and its answer."""
    row = model.example() or _zeros(model, size)
    outputs = _answer(model, row)
    if not_finite(model.outputs, outputs) is not None:
        row = _batch(model, 1, size)
        outputs = _answer(model, row)
        _require_finite(model, outputs, rows=1)
    return row, outputs


def _repeated(row: Arrays, rows: int) -> Arrays:
    return tuple(np.repeat(array, rows, axis=0) for array in row)


def _answer(model: Model, inputs: Arrays) -> Arrays:
    return model.predict(tuple(array.copy() for array in inputs))  # it may write into them


def _require_finite(model: Model, outputs: Arrays, *, rows: int) -> None:
    name = not_finite(model.outputs, outputs)
    if name is not None:
        raise StartupError(
            Reason.WARMUP_FAILED,
            f"the model loads, but a first inference of {rows} rows gives NaN or infinity in "
            f"output {name!r}",
            hint="Its weights are broken, or its datatype is too narrow for them.",
        )


def _run(model: Model, row: Arrays, rows: int, iterations: int) -> float:
    """Run a batch of equal rows; the shortest time, in seconds."""
    batch = row if rows == 1 else _repeated(row, rows)
    shortest = math.inf
    try:
        for _ in range(iterations):
            started = time.perf_counter()
            outputs = _answer(model, batch)
            shortest = min(shortest, time.perf_counter() - started)
            _require_finite(model, outputs, rows=rows)
    except StartupError:
        raise
    except Exception as error:
        reason = Reason.OUT_OF_MEMORY if is_out_of_memory(error) else Reason.WARMUP_FAILED
        raise StartupError(
            reason,
            f"the model answers one row, but not {rows}: {type(error).__name__}: "
            f"{str(error).strip()[:300]}",
            hint="Lower the largest batch, or list the buckets that the model takes.",
        ) from error
    return shortest


def _run_length(model: Model, length: int, sizes: Sequence[int], iterations: int) -> None:
    """Run batches of one more length of sequences."""
    try:
        row, _ = _first_answer(model, length)
    except StartupError:
        raise
    except Exception as error:
        raise _failed(Reason.WARMUP_FAILED, error) from error
    for rows in sizes:
        _run(model, row, rows, iterations)


def _rows_agree(model: Model, *, rows: int, size: int) -> bool:
    """Compare random rows answered together with the same rows answered alone."""
    if rows == 1:
        return True
    problem: Exception | None = None
    for signed in (True, False):  # some models take no negative numbers
        batch = _batch(model, rows, size, signed=signed)
        try:
            agree = _agree(model, batch, rows)
        except Exception as error:  # noqa: BLE001 - a batch that fails is a model without batches
            problem = error
            continue
        if not agree:
            _log.warning("rows depend on their neighbours, requests run one by one")
        return agree
    _log.warning("a full batch fails, requests run one by one", error=str(problem)[:300])
    return False


def _agree(model: Model, batch: Arrays, rows: int) -> bool:
    together = _answer(model, batch)
    for row in (0, rows - 1):
        alone = _answer(model, tuple(array[row : row + 1] for array in batch))
        for many, one in zip(together, alone, strict=True):
            if many.shape[:1] != (rows,) or not _close(many[row : row + 1], one):
                return False
    return True


def _samples(model: Model, size: int, *, max_rows: int) -> list[Arrays]:
    """Make inputs up that the model answers: one row first, a full batch last.

    Those between vary every axis that may vary, so that nothing is taken for fixed.
    """
    open_rows = all((spec.shape or ())[:1] == (-1,) for spec in model.inputs)
    open_inner = any(-1 in (spec.shape or ())[1:] for spec in model.inputs)
    sizes = (size, 2 * size, 3 * size) if open_inner else (size,)
    between = [(rows, each) for each in sizes for rows in ((1, 2, 3) if open_rows else (1,))]
    samples = []
    for rows, each in (*between, *([(max_rows, size)] if max_rows > 1 else ())):
        sample = _batch(model, rows, each)
        try:
            _answer(model, sample)
        except Exception as error:  # noqa: BLE001 - not every size is one that the model takes
            _log.debug("a made-up input is refused", rows=rows, size=each, error=str(error)[:300])
        else:
            samples.append(sample)
    return samples


def _close(left: Array, right: Array) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind not in "fV":
        return bool((left == right).all())
    tolerance = _TOLERANCE[left.dtype.itemsize]
    if left.dtype.kind == "V":  # bfloat16, which numpy knows by name only
        left, right = left.astype(np.float32), right.astype(np.float32)
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


def _zero(spec: TensorSpec) -> bytes | int:
    return b"a" if spec.datatype == "BYTES" else 0


def _batch(model: Model, rows: int, size: int, *, signed: bool = True) -> Arrays:
    example = model.example()
    if example is not None:
        return _repeated(example, rows)
    random = np.random.default_rng(0)
    batched = model.batched
    return tuple(
        _random(_sizes(spec, rows, size, batched=batched), spec, random, signed=signed)
        for spec in model.inputs
    )


def _random(
    shape: tuple[int, ...], spec: TensorSpec, random: np.random.Generator, *, signed: bool
) -> Array:
    dtype = DTYPES[spec.datatype]
    if dtype.kind in "fV":
        return (random.standard_normal if signed else random.random)(shape).astype(dtype)
    bits = random.integers(0, 2, shape)  # 0 and 1 are valid in every vocabulary
    return np.where(bits, b"b", b"a").astype(dtype) if dtype.kind == "O" else bits.astype(dtype)


def _failed(reason: Reason, error: Exception | None) -> StartupError:
    return StartupError(
        reason,
        f"the model loads, but a first inference fails: {type(error).__name__}: "
        f"{str(error).strip()[:400]}",
        hint="The input was made up from the shapes that the artifact declares.",
    )
