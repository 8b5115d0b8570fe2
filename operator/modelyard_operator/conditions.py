"""The conditions of a ModelDeployment, each an ordered list of checks over one pass.

A check returns the first thing that is wrong, or None; so a condition names what explains the rest.

References:
    https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md
    kstatus: Reconciling and Stalled are True only when something is going on or stuck.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from modelyard_operator.analysis.objectives import CONDITION as OBJECTIVES_MET
from modelyard_operator.observed import Observed
from modelyard_operator.plan import Plan
from modelyard_operator.resources import names
from modelyard_operator.rollout.routing import returns_to
from modelyard_operator.rollout.state import RolloutState
from modelyard_operator.rollout.status_part import format_time
from modelyard_operator.rollout.transitions import SETTLE
from modelyard_operator.traffic.backend_tls import plain_text_problem

Manifest = Mapping[str, Any]

REJECTED: Final = "Rejected"
"""Reason of Stalled after a rollback, whatever it was rejected for: Ready says that."""
VERIFICATION_FAILED: Final = "VerificationFailed"
"""Reason of a container's last word: docs/reference/runtime-contract.md."""


@dataclass(frozen=True)
class Condition:
    """One metav1.Condition, before it has a time."""

    type: str
    status: bool | None
    reason: str
    message: str

    def to_status(self, before: Iterable[Manifest], generation: int, now: datetime) -> Manifest:
        """Return the condition as JSON; its time moves only when its status does."""
        status = {True: "True", False: "False", None: "Unknown"}[self.status]
        last = next((c for c in before if c["type"] == self.type), None)
        unchanged = last is not None and last["status"] == status
        return {
            "type": self.type,
            "status": status,
            "reason": self.reason,
            "message": self.message,
            "observedGeneration": generation,
            "lastTransitionTime": last["lastTransitionTime"]
            if unchanged and last
            else format_time(now),
        }


@dataclass(frozen=True)
class Pass:
    """One pass, as the checks look at it."""

    observed: Observed
    plan: Plan
    now: datetime
    settled_at: datetime | None
    """When every proxy has the routes; None when none was ever written."""

    @classmethod
    def of(cls, observed: Observed, plan: Plan, last_shift: datetime | None, now: datetime) -> Self:
        """Build the view of one pass; ``last_shift`` is when a route was last written."""
        return cls(observed, plan, now, last_shift + SETTLE if last_shift else None)

    @property
    def stable_ready(self) -> int:
        """Ready pods of the stable revision."""
        return self.observed.ready(self.plan.rollout.stable)

    @property
    def routes_match(self) -> bool:
        """Whether the live routes are the wanted ones."""
        wanted = {name: weight for name, weight in self.plan.traffic.weights.items() if weight}
        return not self.plan.routes_changed and self.plan.world.weights == wanted


Check = Callable[[Pass], tuple[str, str] | None]
"""Returns reason and message of what is wrong, or None."""


def _suspended(seen: Pass) -> tuple[str, str] | None:
    if seen.observed.model_deployment.spec.suspend:
        return "Suspended", "spec.suspend is true: there are no pods and no routes"
    return None


def _target_fails(seen: Pass) -> tuple[str, str] | None:
    failure = seen.plan.failure
    return (failure.reason, f"{failure.message} ({failure.hint})") if failure else None


def _target_not_stable(seen: Pass) -> tuple[str, str] | None:
    rollout, target = seen.plan.rollout, seen.plan.target
    if target is not None and rollout.stable == target.name:
        return None
    if rollout.state in {RolloutState.INITIALIZING, RolloutState.UNAVAILABLE}:
        return rollout.state.value, "the first revision is not ready yet"
    if rollout.paused_reason == "Freeze" and rollout.next_step_time and not rollout.candidate:
        until = format_time(rollout.next_step_time)
        return "Frozen", f"a freeze window is open: nothing starts before {until}"
    return "RolloutInProgress", progress(seen)


def _rejected(seen: Pass) -> tuple[str, str] | None:
    """The spec's revision was tried, and is not tried again unasked."""
    rollout, target = seen.plan.rollout, seen.plan.target
    if target is None or target.name not in rollout.rejected or rollout.candidate == target.name:
        return None
    last = rollout.last_rollback
    known = last is not None and last.revision == target.name
    reason, why = (last.reason, f": {last.message}") if last and known else (REJECTED, "")
    return reason, (
        f"{target.name} was rejected{why}; {rollout.stable} serves "
        f"(edit the spec, or run kubectl modelyard retry {seen.observed.model_deployment.name})"
    )


def _no_room(seen: Pass) -> tuple[str, str] | None:
    """A pod without a place, of the revision that the spec asks for before the others."""
    rollout, target = seen.plan.rollout, seen.plan.target
    wanted = (target.name if target else None, rollout.candidate, rollout.stable, rollout.previous)
    variants = [one.target.name for one in seen.plan.variants if one.target]
    for revision in dict.fromkeys(filter(None, (*wanted, *variants))):
        if shortage := seen.observed.shortage(revision):
            return shortage.reason, f"{revision}: {shortage.message}"
    return None


def _nothing_ready(seen: Pass) -> tuple[str, str] | None:
    if seen.stable_ready:
        return None
    if seen.observed.model_deployment.spec.replicas == 0:
        return "ScaledToZero", "spec.replicas is 0"
    serving = seen.plan.rollout.stable or "the first revision"
    return "NoReadyReplicas", f"no pod of {serving} is ready"


def _nothing_serves(seen: Pass) -> tuple[str, str] | None:
    """A candidate that stands in for stable serves, too."""
    answers = any(seen.observed.ready(revision) for revision in seen.plan.world.weights)
    return None if answers else _nothing_ready(seen)


def _nobody_let_in(seen: Pass) -> tuple[str, str] | None:
    """The operator may not read Secrets; the pods say that theirs opens the door to nobody."""
    if not seen.observed.locked_out:
        return None
    owner = seen.observed.model_deployment
    auth = owner.spec.exposure.auth
    secret = auth.secret_name or names.keys(owner.name)
    holds = "jwks.json" if auth.type == "JWT" else "a key"
    return "AuthKeysMissing", (
        f"every request is refused: the Secret {secret} does not exist, or does not hold {holds} "
        f"(create it, or correct spec.exposure.auth.secretName)"
    )


def _variant_not_ready(seen: Pass) -> tuple[str, str] | None:
    """A variant is a part of the generation, though production does without it."""
    for variant in seen.plan.variants:
        if variant.problem:
            return "VariantNotReady", f"variant {variant.name}: {variant.problem}"
    return None


def _not_routed(seen: Pass) -> tuple[str, str] | None:
    if seen.plan.rollout.stable is None and not seen.observed.refusal:
        return "NothingToRoute", "the routes follow when the first revision is ready"
    return None


def _routes_refused(seen: Pass) -> tuple[str, str] | None:
    return seen.plan.unrouted


def _dialect_changes(seen: Pass) -> tuple[str, str] | None:
    leaving = seen.plan.traffic.proxy.leaving
    if leaving is None:
        return None
    return "DialectChanging", (
        f"the routes of dialect {leaving.dialect} serve until those of "
        f"{seen.plan.traffic.proxy.dialect} are confirmed"
    )


def _routes_pending(seen: Pass) -> tuple[str, str] | None:
    if not seen.routes_match:
        return "RoutesPending", "the routes do not show yet what they should"
    return None


def _routes_settling(seen: Pass) -> tuple[str, str] | None:
    if seen.settled_at and seen.now < seen.settled_at:
        return "RoutesSettling", "the routes are written; the proxies are given time to follow"
    return None


def _routes_behind(seen: Pass) -> tuple[str, str] | None:
    """Said when time should have been enough: no status is written for what lasts a moment."""
    return seen.observed.lag if seen.settled_at and seen.now >= seen.settled_at else None


def _in_plain_text(seen: Pass) -> tuple[str, str] | None:
    return plain_text_problem(seen.plan.traffic, seen.observed.untrusted)


READY_CHECKS: Final[tuple[Check, ...]] = (
    _suspended,
    _rejected,  # its pods are gone, and with them what they said
    _target_fails,  # explains why the target is not stable
    _target_not_stable,
    _nothing_ready,
    _nobody_let_in,
    _variant_not_ready,
    _routes_refused,
    _dialect_changes,
    _routes_pending,
    _routes_settling,
    _routes_behind,
)
AVAILABLE_CHECKS: Final[tuple[Check, ...]] = (_suspended, _nothing_serves, _nobody_let_in)
ROUTES_CHECKS: Final[tuple[Check, ...]] = (
    _suspended,
    _routes_refused,
    _not_routed,
    _dialect_changes,
    _routes_pending,
    _routes_behind,
    _in_plain_text,
)


def build_conditions(seen: Pass) -> list[Condition]:
    """Return every condition; none is ever left out, so that a reader can wait for each."""
    ready = _judge("Ready", READY_CHECKS, seen, "Serving", f"{seen.plan.rollout.stable} serves")
    stalled = _stalled(seen)
    return [
        ready,
        _judge("Available", AVAILABLE_CHECKS, seen, "Serving", "requests are answered"),
        _progressing(seen),
        _model_ready(seen),
        _verified(seen),
        _judge("CapacityAvailable", (_no_room,), seen, "Scheduled", "no pod waits for room"),
        _judge("RoutesReady", ROUTES_CHECKS, seen, "Confirmed", "the routes are as wanted"),
        _objectives_met(seen),
        _scaling_active(seen),
        _features_unsupported(seen),
        _flag("Suspended", _suspended(seen), "NotSuspended", "spec.suspend is false"),
        _reconciling(seen, ready, stalled),
        stalled,
    ]


def progress(seen: Pass) -> str:
    """Say in a sentence where the rollout is; without figures that change by the second."""
    rollout = seen.plan.rollout
    candidate = rollout.candidate or rollout.stable
    if not rollout.step:
        return f"{candidate}: {rollout.state}"
    where = f"step {rollout.step} of {len(rollout.plan)}"
    return {
        RolloutState.PREPARING: f"{where}: a place is found for {candidate}",
        RolloutState.WAITING_CAPACITY: f"{where}: there is no room for a pod of {candidate}",
        RolloutState.WARMING: f"{where}: {candidate} gets its pods ready",
        RolloutState.SHADOWING: f"{where}: {candidate} answers copies of live requests",
        RolloutState.SHIFTING: f"{where}: the routes move {rollout.weight} % to {candidate}",
        RolloutState.ANALYZING: f"{where}: {rollout.weight} % of the requests go to {candidate}",
        RolloutState.PAUSED: f"{where}: paused at {rollout.weight} % ({rollout.paused_reason})",
        RolloutState.PROMOTING: f"{candidate} takes over",
        RolloutState.PROBATION: f"{rollout.previous} stays warm beside {candidate}",
        RolloutState.ROLLING_BACK: f"traffic returns to {returns_to(rollout)[0]}",
    }.get(rollout.state, str(rollout.state))


def _judge(type_: str, checks: Iterable[Check], seen: Pass, reason: str, message: str) -> Condition:
    for check in checks:
        if problem := check(seen):
            return Condition(type_, False, *problem)
    return Condition(type_, True, reason, message)


def _flag(type_: str, found: tuple[str, str] | None, reason: str, message: str) -> Condition:
    """A condition that is True when something was found."""
    return Condition(type_, True, *found) if found else Condition(type_, False, reason, message)


def _progressing(seen: Pass) -> Condition:
    rollout = seen.plan.rollout
    if rollout.state is RolloutState.UNAVAILABLE:
        return Condition("Progressing", False, *_late(seen))
    if rejected := _rejected(seen):
        return Condition("Progressing", False, *rejected)
    if seen.observed.model_deployment.spec.suspend or rollout.state is RolloutState.IDLE:
        return Condition("Progressing", False, "Idle", "no rollout is under way")
    return Condition("Progressing", True, rollout.state.value, progress(seen))


def _model_ready(seen: Pass) -> Condition:
    target = seen.plan.target
    if target and seen.observed.ready(target.name):
        return Condition("ModelReady", True, "Loaded", f"{target.name} answers inferences")
    for check in (_suspended, _rejected, _target_fails):
        if problem := check(seen):
            return Condition("ModelReady", False, *problem)
    return Condition("ModelReady", False, "NotLoaded", "no pod has answered an inference yet")


def _verified(seen: Pass) -> Condition:
    """A pod of a revision that is new turns ready only after its golden requests agree."""
    target, failure = seen.plan.target, seen.plan.failure
    for revision, problem in seen.observed.findings.unverified.items():
        text = f"a pod of {revision} that started later: {problem}"
        return Condition("Verified", False, VERIFICATION_FAILED, text)
    if failure is not None and failure.reason == VERIFICATION_FAILED:
        return Condition("Verified", False, failure.reason, f"{failure.message} ({failure.hint})")
    if (rejected := _rejected(seen)) and rejected[0] == VERIFICATION_FAILED:
        return Condition("Verified", False, *rejected)
    if target is None or target.spec.rollout.verification is None:
        return Condition("Verified", None, "NotRequested", "there are no golden requests")
    if target.name == seen.plan.rollout.stable or seen.observed.ready(target.name):
        text = f"{target.name} answered the golden requests as recorded before it was let in"
        return Condition("Verified", True, "Passed", text)
    return Condition("Verified", None, "Pending", f"no pod of {target.name} has answered them yet")


def _objectives_met(seen: Pass) -> Condition:
    metrics = seen.observed.model_deployment.spec.rollout.analysis.metrics
    if all(metric.max is None for metric in metrics):
        return Condition(OBJECTIVES_MET, None, "NoObjectives", "no metric has a max")
    if seen.plan.rollout.state not in {RolloutState.IDLE, RolloutState.ROLLED_BACK}:
        return Condition(OBJECTIVES_MET, None, "RolloutInProgress", "the rollout judges by them")
    if broken := seen.observed.findings.objective:
        return Condition(OBJECTIVES_MET, False, broken.reason, broken.message)
    return Condition(OBJECTIVES_MET, True, "Kept", "nothing shows that a max is exceeded")


def _scaling_active(seen: Pass) -> Condition:
    if seen.observed.model_deployment.spec.scaling is None:
        return Condition("ScalingActive", False, "FixedReplicas", "spec.scaling is not set")
    if problem := _suspended(seen):
        return Condition("ScalingActive", False, *problem)
    name = seen.plan.rollout.stable or seen.plan.rollout.candidate or ""
    autoscaler = seen.observed.children.get(("HorizontalPodAutoscaler", name), {})
    for condition in autoscaler.get("status", {}).get("conditions") or ():
        if condition["type"] == "ScalingActive":
            active = condition["status"] == "True"
            # The autoscaler's own message carries figures that change by the second.
            text = "the autoscaler follows its metrics" if active else condition["message"]
            return Condition("ScalingActive", active, condition["reason"], text)
    return Condition("ScalingActive", None, "Pending", "the autoscaler has not reported yet")


def _features_unsupported(seen: Pass) -> Condition:
    gaps = seen.plan.gaps
    found = ("ProfileLimit", "; ".join(gaps)) if gaps else None
    return _flag("FeaturesUnsupported", found, "None", "everything asked for is supported")


def _stalled(seen: Pass) -> Condition:
    failure = seen.plan.failure
    found: tuple[str, str] | None = None
    if failure is not None and not failure.retryable:
        found = _target_fails(seen)
    elif rejected := _rejected(seen):
        found = (REJECTED, rejected[1])
    elif seen.plan.rollout.state is RolloutState.UNAVAILABLE:
        found = _late(seen)
    return _flag("Stalled", found, "NotStalled", "nothing is stuck")


def _late(seen: Pass) -> tuple[str, str]:
    limit = seen.observed.model_deployment.spec.rollout.progress_deadline_seconds
    text = f"no pod of the first revision became ready in {timedelta(seconds=limit)}"
    return "ProgressDeadlineExceeded", text


def _reconciling(seen: Pass, ready: Condition, stalled: Condition) -> Condition:
    suspended = seen.observed.model_deployment.spec.suspend
    busy = not ready.status and not stalled.status and not suspended
    found = (ready.reason, ready.message) if busy else None
    return _flag("Reconciling", found, "Done", "nothing is left to do")
