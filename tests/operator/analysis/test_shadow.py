import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from modelyard_operator.analysis.counters import Series, parse_counters
from modelyard_operator.analysis.shadow import SHADOW_SERIES, add_copies, judge_shadow
from modelyard_operator.rollout.judgement import Verdict
from modelyard_operator.rollout.state import ShadowReport
from modelyard_operator.spec import ShadowSpec
from modelyard_runtime.metrics import RuntimeMetrics
from modelyard_runtime.settings import RuntimeSettings

SPEC = ShadowSpec(percent=10, min_samples=500, min_agreement="0.98")


def compared(samples: int, agreeing: int) -> ShadowReport:
    return ShadowReport(samples=samples, agreement=agreeing / samples if samples else None)


def test_it_reads_what_the_runtime_counts() -> None:
    metrics = RuntimeMetrics(RuntimeSettings(model_name="fraud"))
    for outcome in ("requests", "agreements", "agreements", "disagreements", "errors", "dropped"):
        metrics.shadow(outcome)
    counters = parse_counters(generate_latest(metrics.registry).decode(), SHADOW_SERIES)
    assert add_copies(None, [counters]) == compared(4, 2)


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 99), st.integers(0, 99))))
def test_sums_survive_being_written_as_a_share(scrapes: list[tuple[int, int, int]]) -> None:
    report = ShadowReport()
    for alike, otherwise, unanswered in scrapes:
        grown = {
            Series(name): float(count)
            for name, count in zip(SHADOW_SERIES, (alike, otherwise, unanswered), strict=True)
        }
        report = add_copies(report, [grown])
        report = ShadowReport.model_validate(report.model_dump(mode="json", by_alias=True))
    agreeing = sum(alike for alike, *_ in scrapes)
    assert report.samples == sum(map(sum, scrapes))
    assert round((report.agreement or 0) * report.samples) == agreeing


@pytest.mark.parametrize(
    ("samples", "agreeing", "verdict"),
    [
        (0, 0, Verdict.UNDECIDED),
        (499, 499, Verdict.UNDECIDED),
        (500, 490, Verdict.PASS),
        (500, 489, Verdict.FAIL),
        (20, 19, Verdict.UNDECIDED),
        (20, 10, Verdict.FAIL),
        (5, 0, Verdict.FAIL),
    ],
)
def test_the_table_of_verdicts(samples: int, agreeing: int, verdict: Verdict) -> None:
    found = judge_shadow(SPEC, compared(samples, agreeing))
    assert found.verdict is verdict
    assert found.message.startswith(f"{agreeing} of {samples} copies answered as by stable")


def test_before_the_first_copy_nothing_is_decided() -> None:
    assert judge_shadow(SPEC, None).verdict is Verdict.UNDECIDED


def test_perfect_agreement_is_broken_by_one_copy() -> None:
    perfect = ShadowSpec(min_samples=500, min_agreement="1")
    assert judge_shadow(perfect, compared(100, 99)).verdict is Verdict.FAIL
    assert judge_shadow(perfect, compared(500, 500)).verdict is Verdict.PASS
