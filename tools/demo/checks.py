"""What the demo promises, held against what was seen; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from demo.rollout import Rollout, Step
    from demo.samples import Summary

FIRST_ACCURACY: Final = 0.90
SPLIT_TOLERANCE: Final = 3.0
"""Points of a percent."""
STEP_REQUESTS: Final = 1000
MIN_AGREEMENT: Final = 0.90
ROLLBACK_S: Final = 60.0
BAD_SHARE: Final = 0.10
"""The weight of the first step: no more than that may fail, however bad the version is."""


@dataclass(frozen=True)
class Check:
    """One promise.

    Attributes:
        text: What was promised and what was seen.
        held: Whether it holds.
    """

    text: str
    held: bool


def check_accuracy(name: str, summary: Summary, version: str, *, at_least: float) -> Check:
    """Return whether a version answers well enough over the route."""
    seen = summary.accuracy(version)
    return Check(
        f"{name} names {seen:.1%} of the held-out digits over the route (≥ {at_least:.0%})",
        seen >= at_least,
    )


def check_better(first: float, second: float) -> Check:
    """Return whether the second version is better than the first."""
    return Check(f"version 2 is better than version 1 ({second:.1%} > {first:.1%})", second > first)


def check_steps(steps: Sequence[tuple[Step, Summary]], version: str) -> list[Check]:
    """Return whether clients saw each step's weight, over enough requests.

    Args:
        steps: Each step with the figures of its requests.
        version: The candidate's version.
    """
    if not steps:
        return [Check("the rollout went through its steps (it showed none)", held=False)]
    return [
        Check(
            f"at {step.weight} %, clients saw {summary.share(version):.1f} % over "
            f"{summary.requests:,} requests (± {SPLIT_TOLERANCE:.0f} over ≥ {STEP_REQUESTS:,})",
            abs(summary.share(version) - step.weight) <= SPLIT_TOLERANCE
            and summary.requests >= STEP_REQUESTS,
        )
        for step, summary in steps
    ]


def check_shadow(rollout: Rollout) -> Check:
    """Return whether answers to copies of requests were compared before users got any."""
    samples, agreement = rollout.shadow
    return Check(
        f"before any user met it, version {rollout.version} answered {samples:,} copies of requests, "
        f"{agreement:.1%} of them like version {rollout.before} (≥ {MIN_AGREEMENT:.0%})",
        agreement >= MIN_AGREEMENT,
    )


def check_rollback(rollout: Rollout, summary: Summary) -> list[Check]:
    """Return whether a bad version went, on evidence, before many users met it.

    Args:
        rollout: The rollout of the bad version.
        summary: Figures of all requests around it.
    """
    reason, _ = rollout.rejection
    share = summary.failed / summary.requests if summary.requests else 1.0
    return [
        Check(
            f"version {rollout.version} was rolled back {rollout.detected_s:.0f} s after it had got "
            f"requests: {reason or 'it was not'} (within {ROLLBACK_S:.0f} s)",
            bool(reason) and rollout.detected_s <= ROLLBACK_S,
        ),
        Check(
            f"meanwhile {share:.2%} of {summary.requests:,} requests failed (≤ {BAD_SHARE:.0%})",
            share <= BAD_SHARE,
        ),
        Check(f"version {rollout.before} serves again", rollout.stable == rollout.before),
    ]


def check_failures(summaries: Iterable[Summary]) -> Check:
    """Return whether every request of the demo got its answer."""
    seen = list(summaries)
    requests, failed = sum(s.requests for s in seen), sum(s.failed for s in seen)
    first = next((f"; {error}" for s in seen for error in s.errors), "")
    return Check(f"{failed} of {requests:,} requests failed{first}", failed == 0 and requests > 0)
