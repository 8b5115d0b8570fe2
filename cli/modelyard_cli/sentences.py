"""Sentences that several paragraphs share."""

from typing import Literal

from modelyard_cli.view import Metric, View
from modelyard_cli.words import number, rate


def where(view: View) -> str:
    """Return the step that a rollout is at, as the beginning of a sentence; empty outside steps."""
    rollout = view.rollout
    return f"Step {rollout.step} of {len(rollout.plan)}: " if rollout.step and rollout.plan else ""


def stable_serves(view: View) -> str:
    """Say who answers meanwhile."""
    arm = view.status.stable
    if arm is None or not arm.revision:
        return "Nothing serves meanwhile."
    if not arm.ready_replicas:
        return f"{arm.revision} is stable, and none of its pods is ready."
    candidate = view.status.candidate
    shared = candidate is not None and 0 < candidate.weight < 100  # noqa: PLR2004 - percent
    return (
        f"{arm.revision} answers " + (f"{arm.weight} % of the" if shared else "all") + " requests."
    )


def evidence(view: View) -> str:
    """Say what the figures are so far, one sentence for each metric."""
    analysis = view.rollout.analysis
    if analysis.errors:
        times = "once" if analysis.errors == 1 else f"{analysis.errors} times in a row"
        return f"The figures could not be read ({times}), so nothing is decided on them."
    if not analysis.metrics:
        return "There are no figures yet."
    if not any(one.queried or one.stable.n or one.candidate.n for one in analysis.metrics):
        return "Neither revision has seen a request so far."
    return " ".join(_metric(metric) for metric in analysis.metrics)


def figure(metric: Metric, role: Literal["stable", "candidate"]) -> str:
    """Return what a metric says of one revision: bad requests of all, or the number of a query."""
    if metric.queried:
        value = metric.stable_value if role == "stable" else metric.candidate_value
        return number(value) if value else "no number"
    return rate(metric.stable if role == "stable" else metric.candidate)


def _metric(metric: Metric) -> str:
    text = f"{metric.metric}: {figure(metric, 'candidate')}"
    if metric.queried or metric.stable.n:
        text += f" on the candidate, {figure(metric, 'stable')} on stable"
    else:
        text += ", with nothing on stable to compare"  # at 100 % and on probation
    if not metric.queried:
        text += f", e-value {number(metric.e_value)}" if metric.e_value else ""
        text += f", against max {number(metric.limit_e_value)}" if metric.limit_e_value else ""
    return f"{text}: {metric.verdict or 'Undecided'}."


def headline(view: View) -> str:
    """Return where a ModelDeployment is, in one line for a log."""
    rollout, candidate, ready = view.rollout, view.status.candidate, view.condition("Ready")
    words = [f"{view.name}:", rollout.state or "not observed"]
    words.append(f"({rollout.paused_reason})" if rollout.paused_reason else "")
    words.append(f"step {rollout.step} of {len(rollout.plan)}," if rollout.step else "")
    if candidate:
        words.append(f"{candidate.weight} % to {candidate.revision},")
    verdicts = (f"{one.metric} {one.verdict}" for one in rollout.analysis.metrics if one.verdict)
    if found := ", ".join(verdicts):
        words.append(f"{found};")
    words.append("Ready" if view.ready else f"not Ready ({ready.reason})")
    return " ".join(filter(None, words))
