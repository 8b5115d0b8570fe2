"""``spec.rollout``: how an edit reaches production.

What is absent has a default that a user would expect of a guarded rollout: a canary over 5, 25, 50
and 100 % whose errors, refusals and invalid outputs are compared with stable's. Latency is judged
only where a threshold is declared, outputs only where ``shadow`` or ``verification`` asks for it.
"""

from typing import Literal

from pydantic import Field

from modelyard_operator.spec.base import FileRef, Fraction, Spec

Milliseconds = Literal[
    1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000
]  # fmt: skip
"""Edges of the runtime's latency histogram (its 2.5 ms has no whole number): between them nothing
is known, so a threshold lies on one."""


class StepSpec(Spec):
    """One step of a canary; what is None is the rollout's own."""

    weight: int
    bake_seconds: int | None = None
    max_seconds: int | None = None
    pause: Literal["Manual"] | None = None


DEFAULT_STEPS = tuple(StepSpec(weight=weight) for weight in (5, 25, 50, 100))


class CapacitySpec(Spec):
    """Where the candidate's pods find room, and how long they may wait for it.

    Attributes:
        mode: Surge needs room for both revisions, Exchange gives up one stable pod at a time for one
            candidate pod, Recreate stops stable first. Auto surges, and exchanges where there is no
            room and stable can spare a pod.
        wait_seconds: Longest wait for room.
        on_timeout: What happens then.
    """

    mode: Literal["Auto", "Surge", "Exchange", "Recreate"] = "Auto"
    wait_seconds: int = 1800
    on_timeout: Literal["Rollback", "Pause"] = "Rollback"


class VerificationSpec(Spec):
    """Golden requests, which a new revision must answer as recorded."""

    requests: tuple[FileRef, ...]
    relative_tolerance: Fraction = "1e-3"


class ShadowSpec(Spec):
    """Copies of live requests that the candidate answers, too, before it takes any itself."""

    percent: int = 10
    min_samples: int = 500
    min_agreement: Fraction = "0.98"


class MetricSpec(Spec):
    """One kind of bad event; exactly one of ``builtin``, ``counter`` and ``query`` is set.

    Attributes:
        name: Name in status and in Events.
        builtin: Counted by the runtime. Errors are answers 5xx, Rejected 400, 413, 415 and 422, Slow
            those above the threshold, InvalidOutput those with NaN or an infinity.
        counter: A counter of bad events that the handler increments.
        query: A PromQL expression with ``{{revision}}``.
        threshold_milliseconds: What Slow means.
        max: Largest share of requests that may be bad, whatever stable's is; None compares only.
    """

    name: str
    builtin: Literal["Errors", "Rejected", "Slow", "InvalidOutput"] | None = None
    counter: str | None = None
    query: str | None = None
    threshold_milliseconds: Milliseconds | None = None
    max: Fraction | None = None


DEFAULT_METRICS = (
    # First, since an answer with NaN is an error as well, where JSON has to say it.
    MetricSpec(name="invalid-output", builtin="InvalidOutput"),
    MetricSpec(name="errors", builtin="Errors"),
    MetricSpec(name="rejected", builtin="Rejected"),
)
"""Every kind of bad event that needs no threshold: a version that does more of one than stable is
worse for its callers, whatever the model."""


class AnalysisSpec(Spec):
    """What a candidate is judged by at each step; no metrics leave the hard signals alone.

    Attributes:
        source: Runtime counts at the pods themselves, Prometheus asks the operator's Prometheus.
        alpha: Largest probability of rolling a healthy candidate back, over all metrics and steps.
        min_samples: Requests that each arm must have answered before a step can pass.
        on_inconclusive: What happens when the step's longest time ends before that.
        on_no_traffic: What happens when neither arm saw a request.
        metrics: Kinds of bad events.
    """

    source: Literal["Runtime", "Prometheus"] = "Runtime"
    alpha: Fraction = "0.01"
    min_samples: int = 100
    on_inconclusive: Literal["Pause", "Promote", "Rollback"] = "Pause"
    on_no_traffic: Literal["Promote", "Pause"] = "Promote"
    metrics: tuple[MetricSpec, ...] = DEFAULT_METRICS


class HeaderMatch(Spec):
    """One header and the value that it must have."""

    name: str
    value: str


class CookieMatch(Spec):
    """One cookie and the value that it must have."""

    name: str
    value: str


class MatchSpec(Spec):
    """Requests that reach the candidate whatever its weight; exactly one of the two is set."""

    header: HeaderMatch | None = None
    cookie: CookieMatch | None = None


class StickinessSpec(Spec):
    """A client keeps the revision that has answered it while requests are divided.

    Attributes:
        cookie: What the name of the cookie begins with; the candidate's hash follows.
    """

    cookie: str = "modelyard-revision"


class FreezeSpec(Spec):
    """A time in which no rollout starts or advances; rolling back is always allowed.

    Attributes:
        cron: When it begins: minute, hour, day of month, month, day of week.
        duration_minutes: How long it lasts.
        time_zone: IANA name of the zone that ``cron`` is in.
    """

    cron: str
    duration_minutes: int
    time_zone: str = "UTC"


class RolloutSpec(Spec):
    """How an edit reaches production."""

    strategy: Literal["Canary", "BlueGreen", "Recreate"] = "Canary"
    steps: tuple[StepSpec, ...] = DEFAULT_STEPS
    bake_seconds: int = 120
    max_step_seconds: int = 1800
    capacity: CapacitySpec = CapacitySpec()
    verification: VerificationSpec | None = None
    signature_change: Literal["Reject", "Allow"] = "Reject"
    shadow: ShadowSpec | None = None
    analysis: AnalysisSpec = AnalysisSpec()
    probation_seconds: int = 900
    on_slo_violation: Literal["Ignore", "Rollback"] = Field(
        default="Ignore", alias="onSLOViolation"
    )
    match: tuple[MatchSpec, ...] = ()
    stickiness: StickinessSpec | None = None
    freeze: tuple[FreezeSpec, ...] = ()
    paused: bool = False
    progress_deadline_seconds: int = 3600
    revision_history_limit: int = 5
