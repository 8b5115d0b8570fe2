"""Classes by their values, highest first, for every kind of number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelyard_runtime.engine.protocol import DTYPES, TensorSpec
from modelyard_runtime.errors import InvalidInputError
from modelyard_runtime.wire.classification import classify

SPEC = TensorSpec("y", "ANY", None)


@pytest.mark.parametrize(
    ("datatype", "row", "named"),
    [
        ("FP32", [0.25, 4, -1], ["4.000000:1", "0.250000:0", "-1.000000:2"]),
        ("FP16", [1.5, -2, 9], ["9.000000:2", "1.500000:0", "-2.000000:1"]),
        ("BF16", [1.5, -2, 9], ["9.000000:2", "1.500000:0", "-2.000000:1"]),
        ("FP64", [0, float("nan"), 5], ["5.000000:2", "0.000000:0", "nan:1"]),
        # Neighbours that are the same as floats, and a number that has no negative.
        ("INT64", [2**53, 2**53 + 1, -(2**63)], [f"{2**53 + 1}:1", f"{2**53}:0", f"{-(2**63)}:2"]),
        ("UINT64", [0, 2**64 - 1, 5], [f"{2**64 - 1}:1", "5:2", "0:0"]),
        ("INT8", [-128, 127, 127], ["127:1", "127:2", "-128:0"]),
    ],
)
def test_order(datatype: str, row: list[Any], named: list[str]) -> None:
    output = np.array([row, row[::-1]], DTYPES[datatype])
    got = classify(output, 3, SPEC, batched=True)
    assert [word.decode() for word in got[0]] == named
    assert classify(output, 1, SPEC, batched=True).shape == (2, 1)


@pytest.mark.parametrize("datatype", ["BOOL", "BYTES"])
def test_what_is_no_number_has_no_classes(datatype: str) -> None:
    with pytest.raises(InvalidInputError, match="holds no numbers"):
        classify(np.zeros((1, 2), DTYPES[datatype]), 1, SPEC, batched=True)
