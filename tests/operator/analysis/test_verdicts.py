from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard_operator.analysis.accumulate import accumulate, evaluate
from modelyard_operator.analysis.counters import Tally
from modelyard_operator.analysis.verdicts import Question, judge
from modelyard_operator.rollout.evidence import Evidence, MetricEvidence
from modelyard_operator.rollout.judgement import MOST_ERRORS, NO_TRAFFIC, Judgement, Verdict
from modelyard_operator.spec import AnalysisSpec, MetricSpec
from testkit.operator_objects import NOW

ERRORS = MetricSpec(name="errors", builtin="Errors")
LIMITED = MetricSpec(name="errors", builtin="Errors", max="0.05")
SLOW = MetricSpec(name="too-slow", builtin="Slow", threshold_milliseconds=500)
DRIFT = MetricSpec(name="drift", query="drift", max="0.2")
BAKING = Question(AnalysisSpec(metrics=(ERRORS,)))
BAKED = replace(BAKING, baked=True)
OVERDUE = replace(BAKED, overdue=True)
NOTHING = Tally(0, 0)
SEEN = (Tally(900, 5), Tally(100, 0))


def saw(
    metric: MetricSpec = ERRORS,
    stable: Tally = NOTHING,
    candidate: Tally = NOTHING,
    *,
    errors: int = 0,
) -> Evidence:
    pods = 10  # so that none of them has a burst
    seen = accumulate(
        None,
        metric,
        stable=[Tally(stable.n / pods, stable.bad / pods)] * pods,
        candidate=[Tally(candidate.n / pods, candidate.bad / pods)] * pods,
    )
    return Evidence(window_start=NOW, errors=errors, metrics=(seen,))


def said(question: Question, evidence: Evidence) -> tuple[Verdict, str]:
    _, judgement = judge(question, evidence)
    return judgement.verdict, judgement.reason


def of(question: Question, *metrics: MetricSpec) -> Question:
    return replace(question, spec=question.spec.model_copy(update={"metrics": metrics}))


@pytest.mark.parametrize(
    ("question", "stable", "candidate", "verdict", "reason"),
    [
        (BAKING, *SEEN, Verdict.UNDECIDED, "Baking"),
        (BAKED, *SEEN, Verdict.PASS, "Passed"),
        (OVERDUE, *SEEN, Verdict.PASS, "Passed"),
        # A failure needs its evidence and nothing else: no time, no least number.
        (BAKING, Tally(90, 0), Tally(10, 9), Verdict.FAIL, "ErrorsWorse"),
        (OVERDUE, Tally(90, 0), Tally(10, 9), Verdict.FAIL, "ErrorsWorse"),
        # No data is never a failure.
        (BAKED, Tally(900, 5), Tally(99, 0), Verdict.UNDECIDED, "TooFewRequests"),
        (BAKED, Tally(99, 0), Tally(900, 0), Verdict.UNDECIDED, "TooFewRequests"),
        (BAKED, Tally(900, 5), Tally(0, 0), Verdict.UNDECIDED, "TooFewRequests"),
        (OVERDUE, Tally(900, 5), Tally(99, 0), Verdict.INCONCLUSIVE, "TooFewRequests"),
        (OVERDUE, Tally(900, 5), Tally(0, 0), Verdict.INCONCLUSIVE, "TooFewRequests"),
        (BAKING, Tally(0, 0), Tally(0, 0), Verdict.UNDECIDED, "Baking"),
        (BAKED, Tally(0, 0), Tally(0, 0), Verdict.PASS, NO_TRAFFIC),
        # What both suffer from is nobody's fault.
        (BAKED, Tally(900, 300), Tally(100, 33), Verdict.PASS, "Passed"),
    ],
)
def test_the_table_of_verdicts(
    question: Question, stable: Tally, candidate: Tally, verdict: Verdict, reason: str
) -> None:
    assert said(question, saw(stable=stable, candidate=candidate)) == (verdict, reason)


@pytest.mark.parametrize(
    ("question", "stable", "candidate", "verdict", "reason"),
    [
        (BAKED, Tally(900, 9), Tally(100, 1), Verdict.PASS, "Passed"),
        # Above the limit, and not certain yet: neither passed nor failed.
        (BAKED, Tally(1000, 45), Tally(1000, 52), Verdict.UNDECIDED, "AboveMax"),
        (OVERDUE, Tally(1000, 45), Tally(1000, 52), Verdict.INCONCLUSIVE, "AboveMax"),
        (BAKING, Tally(0, 0), Tally(100, 40), Verdict.FAIL, "ErrorsAboveMax"),
        # Stable is as bad: the candidate is not to blame, and does not pass either.
        (BAKED, Tally(900, 360), Tally(100, 40), Verdict.UNDECIDED, "AboveMax"),
        (OVERDUE, Tally(900, 360), Tally(100, 40), Verdict.INCONCLUSIVE, "AboveMax"),
    ],
)
def test_a_limit_is_held_beside_the_comparison(
    question: Question, stable: Tally, candidate: Tally, verdict: Verdict, reason: str
) -> None:
    evidence = saw(LIMITED, stable, candidate)
    assert said(of(question, LIMITED), evidence) == (verdict, reason)


def test_alone_only_a_limit_judges() -> None:
    alone = replace(BAKED, compares=False)
    assert said(alone, saw(candidate=Tally(10, 10)))[0] is Verdict.PASS
    assert said(alone, saw())[0] is Verdict.PASS
    limited = of(alone, LIMITED)
    assert said(limited, saw(LIMITED, candidate=Tally(100, 1)))[0] is Verdict.PASS
    found = said(limited, saw(LIMITED, candidate=Tally(100, 40)))
    assert found == (Verdict.FAIL, "ErrorsAboveMax")


def test_no_traffic_promotes_only_who_asked_for_that() -> None:
    pause = BAKED.spec.model_copy(update={"on_no_traffic": "Pause"})
    question = replace(BAKED, spec=pause)
    assert said(question, saw()) == (Verdict.INCONCLUSIVE, NO_TRAFFIC)
    assert said(question, Evidence()) == (Verdict.INCONCLUSIVE, NO_TRAFFIC)


def test_a_source_that_fails_freezes_and_never_blames() -> None:
    worse = saw(stable=Tally(90, 0), candidate=Tally(10, 9), errors=1)
    for evidence in (worse, saw(stable=SEEN[0], candidate=SEEN[1], errors=1), saw(errors=1)):
        assert said(OVERDUE, evidence) == (Verdict.UNDECIDED, "SourceUnreachable")
        late = evidence.model_copy(update={"errors": MOST_ERRORS})
        assert said(OVERDUE, late) == (Verdict.ERROR, "SourceUnreachable")


def test_one_bad_metric_is_enough_and_all_must_pass() -> None:
    question = of(BAKED, ERRORS, SLOW)
    good = saw(stable=SEEN[0], candidate=SEEN[1]).metrics
    bad = saw(SLOW, Tally(900, 0), Tally(100, 20)).metrics
    few = saw(SLOW, Tally(900, 0), Tally(20, 0)).metrics
    evidence, judgement = judge(question, Evidence(metrics=good + bad))
    assert (judgement.verdict, judgement.reason) == (Verdict.FAIL, "TooSlowWorse")
    assert [one.verdict for one in evidence.metrics] == [Verdict.PASS, Verdict.FAIL]
    assert said(question, Evidence(metrics=good + few))[0] is Verdict.UNDECIDED
    assert said(question, Evidence(metrics=good))[0] is Verdict.UNDECIDED


def test_without_metrics_there_is_nothing_to_wait_for() -> None:
    assert said(of(BAKED), Evidence()) == (Verdict.PASS, "NoMetrics")
    assert said(of(BAKING), Evidence())[0] is Verdict.UNDECIDED


def test_alpha_is_shared_by_every_test_of_a_rollout() -> None:
    question = replace(of(BAKED, LIMITED, SLOW, DRIFT), comparisons=3, windows=5)
    assert question.comparison_bound == pytest.approx(3 * 3 / 0.01)
    assert question.limit_bound == pytest.approx(5 * 3 / 0.01)


def queried(stable: float | None, candidate: float | None, times: int) -> Evidence:
    seen: MetricEvidence | None = None
    for _ in range(times):
        seen = evaluate(seen, DRIFT, stable=stable, candidate=candidate)
    return Evidence(metrics=(seen,) if seen else ())


@pytest.mark.parametrize(
    ("stable", "candidate", "times", "expected"),
    [
        (0.1, 0.1, 1, (Verdict.PASS, "Passed")),
        (0.1, 0.3, 2, (Verdict.INCONCLUSIVE, "AboveMax")),
        (0.1, 0.3, 3, (Verdict.FAIL, "DriftAboveMax")),
        (0.3, 0.3, 9, (Verdict.INCONCLUSIVE, "AboveMax")),
        (0.1, None, 9, (Verdict.INCONCLUSIVE, "NoValue")),
        (0.1, None, 0, (Verdict.INCONCLUSIVE, "NoValue")),
    ],
)
def test_a_query_is_judged_by_its_last_values(
    stable: float | None, candidate: float | None, times: int, expected: tuple[Verdict, str]
) -> None:
    assert said(of(OVERDUE, DRIFT), queried(stable, candidate, times)) == expected


def test_a_query_without_a_value_is_no_lack_of_traffic() -> None:
    assert said(of(BAKED, ERRORS, DRIFT), saw())[0] is Verdict.UNDECIDED


def test_the_sentence_holds_the_figures() -> None:
    _, failed = judge(BAKING, saw(stable=Tally(900, 1), candidate=Tally(100, 20)))
    assert failed.message.startswith("errors: candidate 20 of 100, stable 1 of 900; worse than")
    assert "bound 100 (since 2026-01-01T12:00:00Z)" in failed.message
    _, passed = judge(BAKED, saw(stable=SEEN[0], candidate=SEEN[1]))
    assert passed == Judgement(
        Verdict.PASS,
        "Passed",
        "errors: candidate 0 of 100, stable 5 of 900 (since 2026-01-01T12:00:00Z)",
    )


tallies = st.integers(0, 300).flatmap(lambda n: st.builds(Tally, st.just(n), st.integers(0, n)))


questions = st.builds(
    Question,
    st.just(AnalysisSpec(metrics=(LIMITED,), on_no_traffic="Pause")),
    baked=st.booleans(),
    overdue=st.booleans(),
)


@given(tallies, tallies, questions, st.integers(0, 6))
def test_no_pass_comes_of_too_few_requests_and_no_failure_of_none(
    stable: Tally, candidate: Tally, question: Question, errors: int
) -> None:
    verdict, _ = said(question, saw(LIMITED, stable, candidate, errors=errors))
    if verdict is Verdict.PASS:
        assert question.baked
        assert not errors
        assert min(stable.n, candidate.n) >= 100
        assert candidate.bad <= 0.05 * candidate.n
    if verdict is Verdict.FAIL:
        assert candidate.bad > 0
        assert not errors
    if verdict is Verdict.INCONCLUSIVE:
        assert question.overdue or stable.n == candidate.n == 0
