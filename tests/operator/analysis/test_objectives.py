from datetime import timedelta

import pytest

from modelyard_operator.analysis.accumulate import accumulate
from modelyard_operator.analysis.counters import Tally
from modelyard_operator.analysis.objectives import (
    CONDITION,
    LONGEST_WINDOW,
    go_on,
    judge_objective,
    objective_of,
    question_of,
)
from modelyard_operator.rollout.evidence import Evidence
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.spec import AnalysisSpec, MetricSpec
from testkit.operator_objects import NOW

ERRORS = MetricSpec(name="errors", builtin="Errors", max="0.05")
QUESTION = question_of(AnalysisSpec(metrics=(ERRORS, MetricSpec(name="r", builtin="Rejected"))))
BROKEN = Judgement(Verdict.FAIL, "ErrorsAboveMax", "errors: 9 of 10")


def saw(n: int, bad: int, *, errors: int = 0) -> Evidence:
    pods = [Tally(n / 20, bad / 20)] * 20
    metrics = tuple(
        accumulate(None, metric, stable=[], candidate=pods) for metric in QUESTION.spec.metrics
    )
    return Evidence(window_start=NOW, errors=errors, metrics=metrics)


@pytest.mark.parametrize(
    ("evidence", "before", "after"),
    [
        (saw(1000, 20), None, None),
        (saw(1000, 20), BROKEN, None),
        # Too little was seen to call it mended, or nothing could be read.
        (saw(99, 0), BROKEN, BROKEN),
        (saw(1000, 20, errors=9), BROKEN, BROKEN),
        (Evidence(), BROKEN, BROKEN),
        (Evidence(), None, None),
        # Above the limit, and not certain.
        (saw(1000, 52), None, None),
        (saw(1000, 52), BROKEN, BROKEN),
        # It is told in the words of the first time.
        (saw(100, 60), BROKEN, BROKEN),
    ],
)
def test_what_is_broken_stays_so_until_it_is_shown_to_be_kept(
    evidence: Evidence, before: Judgement | None, after: Judgement | None
) -> None:
    assert judge_objective(QUESTION, evidence, before)[1] == after


def test_a_limit_breaks_with_its_figures() -> None:
    evidence, broken = judge_objective(QUESTION, saw(100, 60), None)
    assert broken is not None
    assert broken.message.startswith("errors: 60 of 100; above max 0.05: e-value ")
    assert go_on(evidence, NOW) == Evidence(), "what has failed begins anew"


def test_evidence_is_dropped_when_it_is_old() -> None:
    evidence, _ = judge_objective(QUESTION, saw(1000, 20), None)
    young = NOW + LONGEST_WINDOW - timedelta(seconds=1)
    assert go_on(evidence, young) == evidence
    assert go_on(evidence, NOW + LONGEST_WINDOW) == Evidence()
    assert go_on(Evidence(), NOW) == Evidence()


def test_a_new_process_reads_what_is_broken_from_status() -> None:
    other = {"type": "Ready", "status": "False", "reason": "x", "message": "y"}
    broken = {**other, "type": CONDITION, "reason": BROKEN.reason, "message": BROKEN.message}
    assert objective_of([other, broken]) == BROKEN
    assert objective_of([other, {**broken, "status": "True"}]) is None
    assert objective_of([]) is None
