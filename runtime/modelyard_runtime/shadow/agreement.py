"""Whether two revisions say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.engine.protocol import Array

_TOLERANCE: Final = 1e-3


def agree(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> bool:
    """Tell whether two revisions say the same.

    Outputs agree when they are equal; numbers also when they are within a thousandth of each other;
    scores (floats, two or more on the last axis) also when the highest is at the same place in every
    row, since a model that was trained again never gives the same scores.

    Args:
        ours: Name → array of the revision that answered the caller.
        theirs: Name → array of the other.

    Returns:
        Whether every output of ours has one that agrees; outputs that only they have do not count.
    """
    return all(name in theirs and _alike(array, theirs[name]) for name, array in ours.items())


def _alike(left: Array, right: Array) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind not in "fV":
        return bool(np.array_equal(left, right))
    left, right = left.astype(np.float64), right.astype(np.float64)
    if np.allclose(left, right, _TOLERANCE, _TOLERANCE, equal_nan=True):
        return True
    if left.ndim == 0 or left.shape[-1] < 2:  # noqa: PLR2004 - a choice needs two
        return False
    return bool(np.array_equal(left.argmax(-1), right.argmax(-1)))
