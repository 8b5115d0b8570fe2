"""Why a rollout took a revision back, beside the failures of its pods: what that means and what to do.

The reasons are those of the rollout machine and of the analysis, which names a metric in front:
``ErrorsWorse``, ``SlowAboveMax``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

REJECTIONS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "AnalysisFailed": (
            "The evidence against it reached its bound.",
            "Mend the version and ask for it under another URI or version.",
        ),
        "SLOViolated": (
            "It broke its own limit after it had been promoted.",
            "Mend the version, or raise the limit if it is what you want.",
        ),
        "ShadowDisagrees": (
            "Its answers to copies of live requests differ too much from stable's; no user saw them.",
            "Compare both on your own data; lower shadow.minAgreement only if they shall differ.",
        ),
        "ShadowInconclusive": (
            "Too few answers could be compared in the step's longest time.",
            "Lower shadow.minSamples, raise shadow.percent, or give the step more time.",
        ),
        "TooFewCopies": (
            "Too few answers could be compared in the step's longest time.",
            "Lower shadow.minSamples, raise shadow.percent, or give the step more time.",
        ),
        "TooFewRequests": (
            "Too few requests came in the step's longest time, and onInconclusive is Rollback.",
            "Lower analysis.minSamples, or give the step more time with maxStepSeconds.",
        ),
        "NoTraffic": (
            "Neither revision got a request, and onInconclusive is Rollback.",
            "Send it requests, or let onNoTraffic be Promote.",
        ),
        "NoValue": (
            "The query of a metric gave no number for it, and onInconclusive is Rollback.",
            "Correct the query; Prometheus must have the candidate's series.",
        ),
        "AboveMax": (
            "It stayed above the limit of a metric without certainty, and onInconclusive is Rollback.",
            "Give the step more time, or raise the limit.",
        ),
        "SignatureChanged": (
            "Its inputs or outputs differ from stable's, which would break callers.",
            "Serve it as another model, or set spec.rollout.signatureChange to Allow.",
        ),
        "InsufficientCapacity": (
            "The cluster had no room for one of its pods within capacity.waitSeconds.",
            "Free room, or let a stable pod make room with capacity.mode Exchange or Recreate.",
        ),
        "ProgressDeadlineExceeded": (
            "It made no progress within spec.rollout.progressDeadlineSeconds.",
            "See what it waited for, or give it more time.",
        ),
        "Aborted": (
            "Somebody gave the command abort.",
            "",
        ),
        "RolledBackTo": (
            "Somebody asked for an earlier revision.",
            "Edit the spec when there is something better, so that both agree again.",
        ),
    }
)
"""By the reason in ``status.rollout.lastRollback``."""

_BY_METRIC: Final = (
    (
        "Worse",
        (
            "It did worse than stable on the same traffic, and the evidence has reached its bound.",
            "Mend the version and ask for it under another URI or version.",
        ),
    ),
    (
        "AboveMax",
        (
            "It is above the limit that the metric declares, while stable is not.",
            "Mend the version, or raise the limit if it is what you want.",
        ),
    ),
)


def advise_rejection(reason: str) -> tuple[str, str] | None:
    """Return what a rejection means and what to do; None for the failure of a pod, or a new reason."""
    if reason in REJECTIONS:
        return REJECTIONS[reason]
    return next((told for ending, told in _BY_METRIC if reason.endswith(ending)), None)
