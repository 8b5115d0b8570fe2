"""Why a ModelDeployment is not Ready: an ordered list of checks, the first answer counts.

What explains the others comes first: an edit that nobody has looked at, then what was switched off,
then a failure, then the rollout, then what the Ready condition says.
"""

from collections.abc import Callable
from typing import Final

from modelyard_cli.advice import Trouble, advise
from modelyard_cli.explanation import Explanation, NextStep, Seen
from modelyard_cli.rejection import explain_rejection
from modelyard_cli.rollout_states import explain_rollout, room_limit
from modelyard_cli.sentences import stable_serves
from modelyard_cli.words import ago

Check = Callable[[Seen], Explanation | None]


def explain(seen: Seen) -> Explanation:
    """Say where a ModelDeployment stands and what to run next.

    Args:
        seen: The ModelDeployment, how this program was called, and the time.
    """
    for check in CHECKS:
        if found := check(seen):
            return _with_notes(seen, found)
    return _with_notes(seen, _ready(seen))


def _deleting(seen: Seen) -> Explanation | None:
    if not seen.view.deleting:
        return None
    text = f"{seen.view.name} is being deleted, and everything that belongs to it goes with it."
    return Explanation("Deleting", text)


def _unseen(seen: Seen) -> Explanation | None:
    view = seen.view
    if not view.stale and view.status.conditions:
        return None
    what = (
        f"the last edit (generation {view.generation}, seen is {view.status.observed_generation})"
        if view.status.conditions
        else "this object"
    )
    text = (
        f"The operator has not looked at {what}. That takes a second; if it lasts, no operator runs, "
        "or none watches this namespace."
    )
    pods = seen.caller.kubectl_anywhere("get pods -A -l app.kubernetes.io/component=operator")
    return Explanation("NotObserved", text, (NextStep(pods, "shows whether an operator runs"),))


def _suspended(seen: Seen) -> Explanation | None:
    if seen.view.spec_at("suspend") is not True:
        return None
    text = "spec.suspend is true: there are no pods and no routes. The object and its history stay."
    wake = seen.caller.edit(seen.view.name, '{"suspend":false}')
    return Explanation("Suspended", text, (NextStep(wake, "brings it back"),))


def _failing(seen: Seen) -> Explanation | None:
    view, failure = seen.view, seen.view.status.failure
    if failure is None:
        return None
    trouble = Trouble(view, failure, seen.caller)
    who = failure.revision or view.name
    said = failure.message.rstrip(".")
    text = f"{who} fails ({failure.reason}): {said}." if said else f"{who}: {failure.reason}."
    since = ago(failure.last_time, seen.now)
    text += f" That was {since} ago." if since else ""
    text += f" It has happened {failure.count} times." if (failure.count or 0) > 1 else ""
    known = advise(trouble)
    if known:
        text += f" {known.meaning} {known.fix}"
        steps = [NextStep(known.command(trouble), known.why)]
    else:
        text += f" The operator's advice: {failure.hint}." if failure.hint else ""
        steps = [seen.logs(failure.revision, "--previous")]
    if view.stable and failure.revision != view.stable:
        text += f" {stable_serves(view)}"
    text += room_limit(seen)
    if view.candidate and view.stable:
        steps.append(seen.step("abort", "gives up and keeps the stable revision"))
    return Explanation(failure.reason, text, tuple(steps))


def _not_serving(seen: Seen) -> Explanation | None:
    """What the Ready condition says where no rollout and no failure explains it."""
    view, ready = seen.view, seen.view.condition("Ready")
    if ready.status == "True":
        return None
    if view.condition("Stalled").reason == "Rejected":
        return explain_rejection(seen)
    if known := REASONS.get(ready.reason):
        return known(seen)
    describe = NextStep(
        seen.caller.kubectl(f"describe mdep/{view.name}"), "shows all of its status"
    )
    said = ready.message or "the operator gives no reason"
    return Explanation(
        ready.reason or "NotReady", f"{view.name} is not Ready: {said}.", (describe,)
    )


def _scaled_to_zero(seen: Seen) -> Explanation:
    text = "spec.replicas is 0, so no pod runs and nothing answers."
    scale = seen.caller.kubectl(f"scale mdep/{seen.view.name} --replicas=1")
    return Explanation("ScaledToZero", text, (NextStep(scale, "starts a pod"),))


def _no_ready_pod(seen: Seen) -> Explanation:
    view = seen.view
    text = (
        f"No pod of {view.stable or 'the first revision'} is ready, and none reports a failure: they "
        "are starting, being moved to another node, or do not pass their readiness probe."
    )
    selector = f"modelyard.dev/model-deployment={view.name}"
    pods = NextStep(seen.caller.kubectl(f"get pods -l {selector} -o wide"), "shows the pods")
    return Explanation("NoReadyReplicas", text, (pods, seen.logs(view.stable)))


def _routes_pending(seen: Seen) -> Explanation:
    text = (
        "The pods are ready; the routes do not show yet what they should. This takes seconds; if it "
        "lasts, another controller or person changes them, or the proxy's class does not exist."
    )
    return Explanation("RoutesPending", text, (seen.routes(),))


def _routes_refused(seen: Seen) -> Explanation:
    said = seen.view.condition("Ready")
    text = (
        f"The pods are ready, but the proxy does not have the routes: {said.message.rstrip('.')}."
    )
    return Explanation(said.reason, text, (seen.routes(),))


def _routes_settling(seen: Seen) -> Explanation:
    text = "The routes are written; the proxies get a few seconds to follow, then it is Ready."
    return Explanation("RoutesSettling", text, (seen.watch(),))


def _ready(seen: Seen) -> Explanation:
    view = seen.view
    arm = view.status.stable
    pods = (
        f" with {view.status.ready_replicas} ready pods" if view.status.ready_replicas > 1 else ""
    )
    version = f" (version {arm.version})" if arm and arm.version else ""
    text = (
        f"{view.name} is Ready: {view.stable or 'it'}{version} serves what the spec asks for{pods}"
    )
    text += f" at {view.status.url}." if view.status.url else "."
    return Explanation("Serving", text, (seen.step("predict", "sends a request", "BODY.json"),))


def _with_notes(seen: Seen, explanation: Explanation) -> Explanation:
    """Append what is wrong beside the cause."""
    notes = [
        f"{lead}: {condition.message.rstrip('.')}."
        for type_, bad, lead in NOTES
        if (condition := seen.view.condition(type_)).status == bad
        and condition.reason not in {*NOT_ASKED_FOR, explanation.reason}
        and condition.message not in explanation.text
    ]
    if not notes:
        return explanation
    return Explanation(explanation.reason, " ".join([explanation.text, *notes]), explanation.steps)


NOTES: Final = (
    ("Verified", "False", "The golden requests are not answered as recorded"),
    ("CapacityAvailable", "False", "Not every pod finds room"),
    ("ObjectivesMet", "False", "A limit that it promises is broken"),
    ("ScalingActive", "False", "The autoscaler does not work"),
    ("FeaturesUnsupported", "True", "Not everything that the spec asks for is supported here"),
)
"""Conditions that are told beside the cause: type, the status that is bad, and how it begins."""
NOT_ASKED_FOR: Final = frozenset({"FixedReplicas", "Suspended"})
"""Reasons of conditions that say nothing bad."""

REASONS: Final = {
    "ScaledToZero": _scaled_to_zero,
    "NoReadyReplicas": _no_ready_pod,
    "RoutesPending": _routes_pending,
    "RoutesSettling": _routes_settling,
    "PolicyNotAccepted": _routes_refused,
    "RouteNotAccepted": _routes_refused,
    "RoutePending": _routes_refused,
}
"""Reasons of the Ready condition that nothing before them explains."""

CHECKS: Final[tuple[Check, ...]] = (
    _deleting,
    _unseen,
    _suspended,
    _failing,
    explain_rollout,
    _not_serving,
)
