"""The most likely classes instead of the whole output.

References:
    Triton, "Classification Extension".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelyard_runtime.errors import InvalidInputError

if TYPE_CHECKING:
    from modelyard_runtime.engine.protocol import Array


def classify(output: Array, count: int, *, name: str, batched: bool) -> Array:
    """Name the classes with the highest values.

    Args:
        output: Numbers; the last axis counts classes, all of it when there is one axis only.
        count: How many are wanted; more than there are gives all.
        name: The output's name, for messages.
        batched: Whether the first axis counts rows.

    Returns:
        Object array of ``b"<value>:<index>"``, highest first: ``(rows, n)`` or ``(n,)``.

    Raises:
        InvalidInputError: The output does not hold numbers.
    """
    if output.dtype.kind not in "iufV":
        raise InvalidInputError(f"output {name!r} holds no numbers, so it has no classes")
    rows = output.shape[0] if batched else 1
    table = output.reshape(rows, -1)
    order = np.argsort(-table.astype(np.float64), axis=1, kind="stable")[:, :count]
    named: Array = np.empty(order.shape, np.object_)
    for (row, place), at in np.ndenumerate(order):
        value = table[row, at]
        text = f"{value:f}" if output.dtype.kind in "fV" else str(value)
        named[row, place] = f"{text}:{at}".encode()
    return named if batched else named[0]
