"""Why a rollout is paused, and who may say go."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from modelyard_cli.explanation import Explanation, NextStep, Seen
from modelyard_cli.sentences import evidence, stable_serves
from modelyard_cli.words import until

Pause = Callable[[Seen], tuple[str, tuple[NextStep, ...]]]
"""Returns why it is paused, and what to run next."""


def explain_pause(seen: Seen) -> Explanation:
    """Say why a rollout is paused.

    Args:
        seen: The ModelDeployment and the time.
    """
    view, rollout = seen.view, seen.view.rollout
    why, steps = PAUSES.get(rollout.paused_reason, _unknown)(seen)
    at = f"The rollout of {view.candidate or view.stable} is paused at {rollout.weight} %"
    at += f" (step {rollout.step} of {len(rollout.plan)})" if rollout.step and rollout.plan else ""
    text = f"{at}: {why} {stable_serves(view)}"
    return Explanation(f"Paused/{rollout.paused_reason}".rstrip("/"), text, steps)


def explain_frozen_start(seen: Seen) -> Explanation:
    """Say why an edit does not begin its rollout.

    Args:
        seen: The ModelDeployment and the time.
    """
    why, (show, _) = _frozen(seen)
    text = f"The last edit waits to be rolled out: {why} {stable_serves(seen.view)}"
    return Explanation("Frozen", text, (show, seen.watch()))


def _spec(seen: Seen) -> tuple[str, tuple[NextStep, ...]]:
    resume = seen.caller.edit(seen.view.name, '{"rollout":{"paused":false}}')
    return "spec.rollout.paused is true.", (NextStep(resume, "lets it go on"), _abort(seen))


def _step(seen: Seen) -> tuple[str, tuple[NextStep, ...]]:
    why = f"this step waits for a person (pause: Manual). {evidence(seen.view)}"
    return why, (seen.step("promote", "goes on to the next step"), _abort(seen))


def _command(seen: Seen) -> tuple[str, tuple[NextStep, ...]]:
    last = seen.view.rollout.last_command
    by = f" (#{last.id})" if last and last.verb == "pause" else ""
    return f"somebody gave the command pause{by}.", (
        seen.step("resume", "lets it go on"),
        _abort(seen),
    )


def _inconclusive(seen: Seen) -> tuple[str, tuple[NextStep, ...]]:
    why = "the step's longest time is over, and what was seen does not decide it."
    return f"{why} {evidence(seen.view)}", (
        seen.step("promote", "goes on, on your judgement"),
        _abort(seen),
        NextStep(
            seen.caller.edit(seen.view.name, '{"rollout":{"analysis":{"minSamples":N}}}'),
            "asks for fewer requests in the next rollout",
        ),
    )


def _frozen(seen: Seen) -> tuple[str, tuple[NextStep, ...]]:
    ends = until(seen.view.rollout.next_step_time, seen.now)
    why = "a freeze window of spec.rollout.freeze is open"
    why += f"; it ends {ends} and the rollout goes on by itself." if ends else "."
    why += " Rolling back is allowed at any time."
    show = seen.caller.kubectl(f"get mdep/{seen.view.name} -o jsonpath='{{.spec.rollout.freeze}}'")
    return why, (NextStep(show, "shows the windows"), _abort(seen))


def _no_figures(seen: Seen) -> tuple[str, tuple[NextStep, ...]]:
    why = "the figures of the analysis cannot be read. Nothing is decided without them; the weight "
    why += "stays as it is, and the rollout goes on by itself when they can."
    return why, (
        NextStep(seen.caller.operator_log(), "shows why they cannot be read"),
        seen.step("resume", "tries again"),
        _abort(seen),
    )


def _no_traffic(seen: Seen) -> tuple[str, tuple[NextStep, ...]]:
    why = "neither revision saw a request in this step, and onNoTraffic is Pause."
    return why, (
        seen.step("promote", "goes on without evidence"),
        seen.step("predict", "sends a request to the candidate", "BODY.json --candidate"),
        _abort(seen),
    )


def _no_room(seen: Seen) -> tuple[str, tuple[NextStep, ...]]:
    said = seen.view.condition("CapacityAvailable").message
    why = "the candidate found no room in time" + (f": {said}." if said else ".")
    why += " It goes on by itself when there is room."
    nodes = seen.caller.kubectl_anywhere("describe nodes")
    return why, (
        NextStep(nodes, "shows what is in use, and by whom"),
        seen.step("resume", "waits again"),
        _abort(seen),
    )


def _failover(seen: Seen) -> tuple[str, tuple[NextStep, ...]]:
    view = seen.view
    why = (
        f"no pod of {view.stable} is ready, so {view.candidate} answers in its place; that is no "
        "promotion, and the rollout goes on when stable is back."
    )
    return why, (
        seen.logs(view.stable, "--previous"),
        seen.step("promote", "lets the candidate stay", "--full"),
        _abort(seen),
    )


def _unknown(seen: Seen) -> tuple[str, tuple[NextStep, ...]]:
    said = seen.view.condition("Progressing").message
    why = seen.view.rollout.paused_reason or "no reason is given"
    why += f": {said}." if said else "."
    return why, (seen.step("resume", "lets it go on"), _abort(seen))


def _abort(seen: Seen) -> NextStep:
    return seen.step("abort", "takes the candidate back")


PAUSES: Final[Mapping[str, Pause]] = MappingProxyType(
    {
        "Spec": _spec,
        "Step": _step,
        "Command": _command,
        "Inconclusive": _inconclusive,
        "Freeze": _frozen,
        "AnalysisError": _no_figures,
        "NoTraffic": _no_traffic,
        "Capacity": _no_room,
        "Failover": _failover,
    }
)
"""By ``status.rollout.pausedReason``."""
