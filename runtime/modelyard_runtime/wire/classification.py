"""The most likely classes instead of the whole output.

References:
    Triton, "Classification Extension".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelyard_runtime.errors import InvalidInputError

if TYPE_CHECKING:
    from modelyard_runtime.engine.protocol import Array, TensorSpec


def classify(output: Array, count: int, spec: TensorSpec, *, batched: bool) -> Array:
    """Name the classes with the highest values.

    Args:
        output: Numbers; the last axis counts classes, all of it when there is one axis only.
        count: How many are wanted; more than there are gives all.
        spec: The output, with the labels of its classes where they are known.
        batched: Whether the first axis counts rows.

    Returns:
        Object array of ``b"<value>:<index>"`` or ``b"<value>:<index>:<label>"``, highest first:
        ``(rows, n)`` or ``(n,)``.

    Raises:
        InvalidInputError: The output does not hold numbers.
    """
    if output.dtype.kind not in "iufV":
        raise InvalidInputError(f"output {spec.name!r} holds no numbers, so it has no classes")
    batched = batched and output.ndim > 0  # what a postprocess hook gives need not count rows
    rows = output.shape[0] if batched else 1
    table = output.reshape(rows, -1)
    # Turned upside down: integers by their bits, as floats would lose digits of large ones.
    falling = -table.astype(np.float64) if output.dtype.kind in "fV" else ~table
    order = np.argsort(falling, axis=1, kind="stable")[:, :count]
    named: Array = np.empty(order.shape, np.object_)
    for (row, place), at in np.ndenumerate(order):
        value = table[row, at]
        text = f"{float(value):f}" if output.dtype.kind in "fV" else str(value)
        label = f":{spec.labels[at]}" if at < len(spec.labels) else ""
        named[row, place] = f"{text}:{at}{label}".encode()
    return named if batched else named[0]
