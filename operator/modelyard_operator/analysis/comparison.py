"""How a variant does beside stable: figures for people, which decide nothing.

References:
    docs/how-to/compare-variants.md
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from modelyard_operator.analysis.accumulate import accumulate
from modelyard_operator.analysis.counters import Counters, tally
from modelyard_operator.rollout.evidence import Counts, Decimal, MetricEvidence
from modelyard_operator.rollout.status_part import StatusPart, Time
from modelyard_operator.spec import MetricSpec

FIELD: Final = "comparison"
"""Name in ``status.variants[]``."""


class ComparedMetric(StatusPart):
    """One metric of both, since the comparison began."""

    metric: str
    """Its name in ``spec.rollout.analysis.metrics``."""
    stable: Counts = Counts()
    variant: Counts = Counts()
    e_value: str = "1"
    """How many times better "the variant is worse" explains the figures than "both are alike"; it may
    be looked at as often as one likes."""
    log_e: tuple[Decimal, ...] = ()
    """Logarithms of the e-values against each alternative; ``e_value`` is their mean."""


class Comparison(StatusPart):
    """What two revisions answered while both had requests."""

    stable: str
    """The revision that the variant is compared with; another one begins a new comparison."""
    since: Time
    metrics: tuple[ComparedMetric, ...] = ()


def from_status(status: Mapping[str, Any]) -> dict[str, Comparison]:
    """Return what status says of each variant's revision."""
    return {
        one["revision"]: Comparison.model_validate(one[FIELD])
        for one in status.get("variants") or ()
        if FIELD in one
    }


def go_on(before: Comparison | None, stable: str, now: datetime) -> Comparison:
    """Return the comparison to add to: the one before, or a new one if stable is another."""
    if before is not None and before.stable == stable:
        return before
    return Comparison(stable=stable, since=now.replace(microsecond=0))


def compare(
    before: Comparison,
    metrics: Sequence[MetricSpec],
    *,
    stable: Sequence[Counters],
    variant: Sequence[Counters],
) -> Comparison:
    """Add one interval.

    Args:
        before: What was seen so far.
        metrics: What is counted; a query has no counts, and is left out.
        stable: Growth of the counters of each of stable's pods.
        variant: Growth of the counters of each of the variant's pods.
    """
    known = {one.metric: one for one in before.metrics}
    found = [_added(known, metric, stable, variant) for metric in metrics if metric.query is None]
    return before.model_copy(update={"metrics": tuple(found)})


def _added(
    known: Mapping[str, ComparedMetric],
    metric: MetricSpec,
    stable: Sequence[Counters],
    variant: Sequence[Counters],
) -> ComparedMetric:
    so_far = known.get(metric.name) or ComparedMetric(metric=metric.name)
    evidence = accumulate(
        MetricEvidence(
            metric=metric.name,
            stable=so_far.stable,
            candidate=so_far.variant,
            e_value=so_far.e_value,
            log_e=so_far.log_e,
        ),
        metric.model_copy(update={"max": None}),  # a limit is for a verdict
        stable=[tally(metric, counted) for counted in stable],
        candidate=[tally(metric, counted) for counted in variant],
    )
    return ComparedMetric(
        metric=metric.name,
        stable=evidence.stable,
        variant=evidence.candidate,
        e_value=evidence.e_value,
        log_e=evidence.log_e,
    )
