"""The figures behind a verdict, as they live in ``status.rollout.analysis``.

Only sums are kept: what each pod's counters said last is in memory, so that a restart loses at most
one interval between two scrapes and never invents one.
"""

from typing import Annotated

from pydantic import PlainSerializer

from modelyard_operator.rollout.judgement import Verdict
from modelyard_operator.rollout.status_part import StatusPart, Time

Decimal = Annotated[float, PlainSerializer(lambda number: format(number, ".9g"), return_type=str)]
"""A number that is text in ``status``, since objects of Kubernetes hold no fractions."""


class Counts(StatusPart):
    """What one revision's pods answered within the window."""

    n: int = 0
    """Requests that the metric looks at."""
    bad: int = 0
    """Those of them that count against the revision."""


class MetricEvidence(StatusPart):
    """One metric of both revisions."""

    metric: str
    """Its name in ``spec.rollout.analysis.metrics``."""
    stable: Counts = Counts()
    candidate: Counts = Counts()
    e_value: str = "1"
    """How many times better "the candidate is worse" explains the figures than "both are alike": of
    the whole rollout, while the counts are the window's."""
    log_e: tuple[Decimal, ...] = ()
    """Logarithms of the e-values against each alternative; ``e_value`` is their mean."""
    limit_e_value: str | None = None
    """The same for "the candidate is above ``max``" against "it is within"; None without ``max``."""
    limit_log_e: tuple[Decimal, ...] = ()
    """As ``log_e``, for ``limit_e_value``."""
    candidate_value: str | None = None
    """What a query gave last; None for metrics that are counted, and where it gave no number."""
    stable_value: str | None = None
    """The same of stable."""
    breaches: int = 0
    """Evaluations in a row in which a query was above ``max`` for the candidate alone."""
    verdict: Verdict = Verdict.UNDECIDED


class Evidence(StatusPart):
    """All that was seen in one window: a step at its confirmed weight, or a probation."""

    revision: str = ""
    """The revision that is judged."""
    step: int = 0
    """The step that the window belongs to."""
    window_start: Time | None = None
    """From when on requests count; None until the routes had time to settle."""
    last_scrape: Time | None = None
    """The last scrape that brought something new."""
    errors: int = 0
    """Scrapes in a row that failed."""
    metrics: tuple[MetricEvidence, ...] = ()
