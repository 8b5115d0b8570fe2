"""Adds what one scrape brought to the evidence."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from modelyard_operator.analysis.counters import Tally
from modelyard_operator.analysis.sequential import add, e_value, log_ratios, restart
from modelyard_operator.rollout.evidence import Counts, MetricEvidence
from modelyard_operator.spec import MetricSpec

BURST: Final = 3
"""Bad events of one pod in one interval that count in full. More of them have one cause rather than
many, and the test takes events to be independent. With 10, one in 25 healthy canaries was rolled back
where pods have a bad moment now and then (benchmarks/analysis, the cell with hiccups); with 3 none was,
and bad ones were found as soon."""


def accumulate(
    before: MetricEvidence | None,
    metric: MetricSpec,
    *,
    stable: Sequence[Tally],
    candidate: Sequence[Tally],
    renew: bool = False,
) -> MetricEvidence:
    """Add one interval to a metric's evidence.

    The counts are what happened. The e-values believe a burst of the candidate only in part; one of
    stable in full, since it speaks for the candidate and can only delay a verdict.

    Args:
        before: The evidence so far; None before the first interval.
        metric: What is counted.
        stable: One tally for each of stable's pods.
        candidate: One tally for each of the candidate's pods.
        renew: Let the evidence for a broken limit begin anew with every interval, beside what there
            is: what has been good for long may turn bad at any time.
    """
    before = before or MetricEvidence(metric=metric.name)
    theirs, ours = _sum(stable), _sum(candidate)
    if not math.isfinite(sum((*theirs, *ours))):
        return before  # a handler has made its counter no number: that says nothing of the model
    capped = sum(min(pod.bad, BURST) for pod in candidate)
    trust = capped / ours.bad if ours.bad else 1.0
    log_e, limit_log_e = before.log_e, before.limit_log_e
    if theirs.n and ours.n:
        share = ours.n / (ours.n + theirs.n)
        log_e = add(log_e, log_ratios(share, ours.bad, theirs.bad), trust=trust)
    if metric.max is not None and ours.n:
        bad = min(ours.bad, ours.n)  # a handler may count more than once in a request
        ratios = log_ratios(float(metric.max), bad, ours.n - bad)
        begun = restart(limit_log_e) if renew else limit_log_e
        limit_log_e = add(begun, ratios, trust=trust)
    return before.model_copy(
        update={
            "stable": _plus(before.stable, theirs),
            "candidate": _plus(before.candidate, ours),
            "log_e": log_e,
            "e_value": format_e(e_value(log_e)),
            "limit_log_e": limit_log_e,
            "limit_e_value": format_e(e_value(limit_log_e)) if metric.max is not None else None,
        }
    )


def evaluate(
    before: MetricEvidence | None,
    metric: MetricSpec,
    *,
    stable: float | None,
    candidate: float | None,
) -> MetricEvidence:
    """Add one evaluation of a query to its evidence.

    A query gives no counts, so nothing can be tested; it has to be above its limit several times in
    a row, while stable is not.

    Args:
        before: The evidence so far; None before the first evaluation.
        metric: The query and its limit.
        stable: Its value for stable; None when that is no number, or not asked for.
        candidate: Its value for the candidate; None when that is no number.
    """
    before = before or MetricEvidence(metric=metric.name)
    limit = math.inf if metric.max is None else float(metric.max)
    breach = (
        candidate is not None and candidate > limit and not (stable is not None and stable > limit)
    )
    return before.model_copy(
        update={
            "candidate_value": None if candidate is None else format(candidate, ".6g"),
            "stable_value": None if stable is None else format(stable, ".6g"),
            "breaches": before.breaches + 1 if breach else 0,
        }
    )


def format_e(value: float) -> str:
    """Return an e-value as people read it: three digits."""
    return format(value, ".3g")


def _sum(pods: Iterable[Tally]) -> Tally:
    tallies = tuple(pods)
    return Tally(math.fsum(t.n for t in tallies), math.fsum(t.bad for t in tallies))


def _plus(counts: Counts, tally: Tally) -> Counts:
    return Counts(n=counts.n + round(tally.n), bad=counts.bad + round(tally.bad))
