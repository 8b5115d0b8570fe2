"""Do the candidate's answers agree with stable's? Judged over copies of live requests.

Whether enough of them agree is looked at once, when ``minSamples`` have been compared, so that luck
has one chance only. What is hopeless before that is stopped earlier by the sequential test.
"""

from collections.abc import Iterable
from typing import Final

from modelyard_operator.analysis.counters import Counters, Series
from modelyard_operator.analysis.sequential import e_value, log_ratios
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.state import ShadowReport
from modelyard_operator.spec import ShadowSpec

AGREEMENTS: Final = "modelyard_shadow_agreements_total"
DISAGREEMENTS: Final = "modelyard_shadow_disagreements_total"
ERRORS: Final = "modelyard_shadow_errors_total"
SHADOW_SERIES: Final = (AGREEMENTS, DISAGREEMENTS, ERRORS)
ALPHA: Final = 0.01
"""Largest probability of giving a candidate up before ``minSamples`` that is just good enough."""


def add_copies(before: ShadowReport | None, grown: Iterable[Counters]) -> ShadowReport:
    """Add what stable's pods have compared since the last scrape.

    A copy that the candidate did not answer is one that it did not answer alike.

    Args:
        before: The report so far; None at its beginning.
        grown: Growth of each of stable's pods' counters.
    """
    before = before or ShadowReport()
    agreeing, samples = _agreeing(before), before.samples
    for counted in grown:
        alike = round(counted.get(Series(AGREEMENTS), 0.0))
        agreeing += alike
        samples += alike + sum(
            round(counted.get(Series(name), 0.0)) for name in (DISAGREEMENTS, ERRORS)
        )
    return ShadowReport(samples=samples, agreement=agreeing / samples if samples else None)


def judge_shadow(spec: ShadowSpec, report: ShadowReport | None) -> Judgement:
    """Judge the copies compared so far.

    Args:
        spec: ``spec.rollout.shadow``.
        report: What was compared.
    """
    report = report or ShadowReport()
    agreeing, least = _agreeing(report), float(spec.min_agreement)
    text = (
        f"{agreeing} of {report.samples} copies answered as by stable, {spec.min_agreement} needed"
    )
    if report.samples < spec.min_samples:
        ratios = log_ratios(1.0 - least, report.samples - agreeing, agreeing)
        value = e_value(ratios)
        if value >= 1 / ALPHA:
            grounds = f"{text}: e-value {value:.3g}, bound {1 / ALPHA:.3g}"
            return Judgement(Verdict.FAIL, "ShadowDisagrees", grounds)
        return Judgement(
            Verdict.UNDECIDED, "TooFewCopies", f"{text}; {spec.min_samples} copies needed"
        )
    if agreeing < least * report.samples:
        return Judgement(Verdict.FAIL, "ShadowDisagrees", text)
    return Judgement(Verdict.PASS, "ShadowAgrees", text)


def _agreeing(report: ShadowReport) -> int:
    return round((report.agreement or 0.0) * report.samples)
