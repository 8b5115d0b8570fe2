import json
from typing import Any

import pytest

from modelyard_operator.analysis.pod_status import (
    InvalidPodStatusError,
    PodStatus,
    parse_pod_status,
    signature_change,
)

X: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [-1, 30]}
MASK: dict[str, Any] = {"name": "mask", "datatype": "BOOL", "shape": [-1]}
Y: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": [-1, 2]}


def said(inputs: list[Any], outputs: list[Any], **rest: Any) -> PodStatus:
    model = {"name": "fraud", "version": "1", "inputs": inputs, "outputs": outputs, "batched": True}
    return parse_pod_status(json.dumps({"state": "Ready", "models": [model], **rest}), "fraud")


def test_alike_is_no_change_in_any_order() -> None:
    assert signature_change(said([X, MASK], [Y]), said([MASK, X], [Y])) is None


def test_who_says_nothing_of_its_tensors_is_not_compared() -> None:
    assert signature_change(said([], []), said([X], [Y])) is None
    assert signature_change(said([X], [Y]), said([X], [])) is None


@pytest.mark.parametrize(
    ("inputs", "outputs", "sentence"),
    [
        ([X | {"shape": [-1, 31]}], [Y], "input x was FP32 [-1, 30] and is FP32 [-1, 31]"),
        ([X | {"datatype": "FP16"}], [Y], "input x was FP32 [-1, 30] and is FP16 [-1, 30]"),
        ([X, MASK], [Y], "input mask BOOL [-1] is new"),
        ([X], [Y | {"name": "z"}], "output y is gone; output z FP32 [-1, 2] is new"),
        (
            [X | {"name": "z"}],
            [Y | {"shape": [-1, 3]}],
            (
                "input x is gone; input z FP32 [-1, 30] is new; "
                "output y was FP32 [-1, 2] and is FP32 [-1, 3]"
            ),
        ),
    ],
)
def test_a_change_is_said_in_a_sentence(
    inputs: list[Any], outputs: list[Any], sentence: str
) -> None:
    assert signature_change(said([X], [Y]), said(inputs, outputs)) == sentence


def test_the_outcome_of_verification_is_read() -> None:
    failed = {"outcome": "Failed", "requests": 3, "problem": "y differs"}
    verification = said([X], [Y], verification=failed).verification
    assert verification is not None
    assert (verification.outcome, verification.problem) == ("Failed", "y differs")
    assert said([X], [Y], verification=None).verification is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<html>", "Invalid JSON"),
        ('{"models": [{"name": "fraud", "inputs": [{"name": 3}]}]}', "models.0.inputs.0"),
        ('{"models": [{"name": "other"}]}', "expected the model 'fraud'"),
        ("{}", "expected the model 'fraud'"),
    ],
)
def test_another_document_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidPodStatusError, match=problem):
        parse_pod_status(text, "fraud")
