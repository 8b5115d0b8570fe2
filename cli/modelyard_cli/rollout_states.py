"""Each state of a rollout as a paragraph: what is waited for, who answers meanwhile, what to run.

The states are those of the operator's rollout machine; ``Baking``, ``Retiring`` and ``Draining`` are
what older operators call Analyzing, the end of Promoting, and RollingBack.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from modelyard_cli.explanation import Explanation, NextStep, Seen
from modelyard_cli.pauses import explain_frozen_start, explain_pause
from modelyard_cli.rejection import advise_rollback, explain_rejection
from modelyard_cli.sentences import evidence, stable_serves, where
from modelyard_cli.words import ago, percent, until

State = Callable[[Seen], Explanation]
AT_REST: Final = frozenset({"Idle", "RolledBack", "Probation"})
"""States in which no candidate is on its way."""


def explain_rollout(seen: Seen) -> Explanation | None:
    """Say where a rollout is; None when none is under way.

    Args:
        seen: The ModelDeployment and the time.
    """
    state = seen.view.rollout.state
    if seen.view.rollout.paused_reason == "Freeze" and state in AT_REST:
        return explain_frozen_start(seen)
    if not state or state == "Idle":
        return None
    return STATES.get(state, _unknown)(seen)


def _unknown(seen: Seen) -> Explanation:
    rollout, view = seen.view.rollout, seen.view
    said = view.condition("Progressing").message or view.condition("Ready").message
    text = f"The rollout of {view.candidate or view.stable} is in state {rollout.state}"
    return Explanation(rollout.state, f"{text}: {said}." if said else f"{text}.", (seen.watch(),))


def _initializing(seen: Seen) -> Explanation:
    view = seen.view
    revision = view.candidate or "the first revision"
    text = (
        f"{revision} is the first revision and is not ready yet, so nothing serves so far: its pods "
        "fetch the model, load it and answer a first inference before they are let in."
    )
    return Explanation("Initializing", text, (seen.logs(view.candidate), seen.watch()))


def _preparing(seen: Seen) -> Explanation:
    text = (
        f"{seen.view.candidate} is new: its objects are being created. {stable_serves(seen.view)}"
    )
    return Explanation("Preparing", text, (seen.watch(),))


def _waiting_capacity(seen: Seen) -> Explanation:
    view = seen.view
    short = view.condition("CapacityAvailable")
    said = short.message.removeprefix(f"{view.candidate}: ") if short.status == "False" else ""
    text = f"{view.candidate} waits for room in the cluster" + (f": {said}." if said else ".")
    text += f" {stable_serves(view)} It goes on by itself when there is room."
    text += room_limit(seen)
    steps = (
        NextStep(
            seen.caller.kubectl_anywhere("describe nodes"), "shows what is in use, and by whom"
        ),
        seen.step("abort", "gives up and keeps the stable revision"),
    )
    return Explanation("WaitingCapacity", text, steps)


def room_limit(seen: Seen) -> str:
    """Say what happens to a candidate that finds no room; empty while it does not wait for any."""
    rollout = seen.view.rollout
    if rollout.state != "WaitingCapacity" or rollout.next_step_time is None:
        return ""
    then = seen.view.spec_at("rollout", "capacity", "onTimeout") or "Rollback"
    ends = "taken back" if then == "Rollback" else "paused"
    return f" Without room it is {ends} {until(rollout.next_step_time, seen.now)}."


def _warming(seen: Seen) -> Explanation:
    view = seen.view
    arm = view.status.candidate
    ready = f" ({arm.ready_replicas} of {arm.replicas} ready)" if arm and arm.replicas else ""
    text = (
        f"{where(view)}{view.candidate} gets its pods ready{ready}: they load the model and answer a "
        f"first inference before they get their share. {stable_serves(view)}"
    )
    return Explanation("Warming", text, (seen.logs(view.candidate), seen.watch()))


def _shadowing(seen: Seen) -> Explanation:
    view, shadow = seen.view, seen.view.rollout.shadow
    text = (
        f"{view.candidate} is asked copies of live requests and its answers are compared with "
        "stable's; users see nothing of it."
    )
    if shadow and shadow.samples:
        share = f", {_share(shadow.agreement)} of them agree" if shadow.agreement else ""
        text += f" So far {shadow.samples:,} answers were compared{share}."
    wanted = view.spec_at("rollout", "shadow", "minSamples")
    text += f" {wanted:,} are needed." if isinstance(wanted, int) else ""
    steps = (
        seen.watch(),
        seen.step("promote", "goes on without the comparison"),
        seen.step("abort", "drops the candidate"),
    )
    return Explanation("Shadowing", text, steps)


def _shifting(seen: Seen) -> Explanation:
    view = seen.view
    text = (
        f"{where(view)}the routes are told to give {view.rollout.weight} % to {view.candidate}, and "
        "are read back until they do. This takes seconds; if it lasts, the proxy or another "
        "controller holds the route."
    )
    return Explanation("Shifting", text, (seen.routes(), seen.watch()))


def _analyzing(seen: Seen) -> Explanation:
    view, rollout = seen.view, seen.view.rollout
    text = f"{where(view)}{rollout.weight} % of the requests go to {view.candidate}"
    since = ago(rollout.analysis.window_start or rollout.state_since, seen.now)
    text += f" since {since}" if since else ""
    text += ", which is compared with stable."
    text += f" {evidence(view)}"
    if rollout.next_step_time:
        text += f" The step can end {until(rollout.next_step_time, seen.now)}."
    steps = (
        seen.watch(),
        seen.step("promote", "goes on without waiting for the verdict"),
        seen.step("abort", "takes the candidate back"),
    )
    return Explanation(rollout.state, text, steps)


def _promoting(seen: Seen) -> Explanation:
    view = seen.view
    previous = f" {view.rollout.previous} goes when no request can reach it any more."
    text = f"{view.stable} has passed and is stable now; the routes move over to it."
    text += previous if view.rollout.previous else ""
    return Explanation(view.rollout.state, text, (seen.watch(),))


def _probation(seen: Seen) -> Explanation:
    view, rollout = seen.view, seen.view.rollout
    ends = until(rollout.next_step_time or rollout.deadline_time, seen.now)
    text = f"{view.stable} is stable and serves everything."
    if rollout.previous:
        text += f" {rollout.previous} is kept warm: on evidence traffic returns to it by itself."
    text += f" The probation ends {ends}." if ends else ""
    text += f" {evidence(view)}" if rollout.analysis.metrics else ""
    return Explanation(
        "Probation", text, (seen.step("rollback", "returns to the previous revision"),)
    )


def _rolling_back(seen: Seen) -> Explanation:
    view, last = seen.view, seen.view.rollout.last_rollback
    previous = view.rollout.previous  # set while a promoted revision is taken back
    gone = (view.stable if previous else view.candidate) or "the candidate"
    text = f"Traffic returns from {gone} to {previous or view.stable or 'stable'}"
    after = " The pods go only when no request can reach them any more."
    if last is None or last.revision != gone:  # another edit came
        return Explanation(view.rollout.state, f"{text}.{after}", (seen.watch(),))
    advice = advise_rollback(seen, last)
    text += f", because: {(last.message or last.reason).rstrip('.')}.{after}"
    text += "".join(f" {sentence}" for sentence in (advice.meaning, advice.fix) if sentence)
    steps = (*advice.steps, seen.watch())
    return Explanation(last.reason or view.rollout.state, text, steps)


def _unavailable(seen: Seen) -> Explanation:
    view = seen.view
    revision = view.candidate or "the first revision"
    text = (
        f"Nothing serves: {revision} is the first revision and did not become ready within "
        "spec.rollout.progressDeadlineSeconds. Its pods are kept, and it serves as soon as one of "
        "them is ready; an edit starts anew."
    )
    pods = seen.caller.kubectl(f"describe pods -l modelyard.dev/model-deployment={view.name}")
    return Explanation(
        "Unavailable",
        text,
        (
            seen.logs(view.candidate),
            NextStep(pods, "shows the pods"),
            seen.step("retry", "gives it the same time again"),
        ),
    )


def _share(text: str) -> str:
    try:
        return percent(float(text))
    except ValueError:
        return text


STATES: Final[Mapping[str, State]] = MappingProxyType(
    {
        "Initializing": _initializing,
        "Preparing": _preparing,
        "WaitingCapacity": _waiting_capacity,
        "Warming": _warming,
        "Shadowing": _shadowing,
        "Shifting": _shifting,
        "Analyzing": _analyzing,
        "Baking": _analyzing,
        "Paused": explain_pause,
        "Promoting": _promoting,
        "Retiring": _promoting,
        "Probation": _probation,
        "RollingBack": _rolling_back,
        "Draining": _rolling_back,
        "RolledBack": explain_rejection,
        "Unavailable": _unavailable,
    }
)
"""Every state that a rollout can be in, but Idle."""
