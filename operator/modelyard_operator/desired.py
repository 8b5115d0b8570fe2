"""``desired_state``: from spec and observation to everything that one pass wants. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from modelyard_operator.checks import check_spec
from modelyard_operator.drift import differs
from modelyard_operator.errors import InvalidSpecError, ModelyardOperatorError
from modelyard_operator.failures import Failure
from modelyard_operator.files import read_files
from modelyard_operator.kinds import ROUTE_KINDS
from modelyard_operator.observed import Observed
from modelyard_operator.plan import Plan
from modelyard_operator.resources import labels
from modelyard_operator.resources.network_policy import build_network_policies, unenforced
from modelyard_operator.resources.service import build_cluster_service
from modelyard_operator.revision import Revision, target_revision
from modelyard_operator.roles import role_of
from modelyard_operator.rollout.commands import apply_command
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.machine import decide, wake_time
from modelyard_operator.rollout.routing import backends
from modelyard_operator.rollout.sizing import bounds, size
from modelyard_operator.rollout.state import Ask, Rollout, RolloutState, World
from modelyard_operator.running import Running, build_children, scales, stale_pods
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.spec import ModelDeployment
from modelyard_operator.traffic.capabilities import unsupported
from modelyard_operator.traffic.dialects import render_routes
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import Proxy
from modelyard_operator.variants import plan_variants

Manifest = dict[str, Any]


def desired_state(observed: Observed, settings: OperatorSettings, now: datetime) -> Plan:
    """Return what one pass wants.

    A spec that cannot be built leaves everything that serves as it is: the plan then says why, and
    goes on with the rollout that is under way.

    Args:
        observed: The cluster's state.
        settings: The operator's own settings.
        now: Current time, in UTC.
    """
    model_deployment = observed.model_deployment
    spec = model_deployment.spec
    proxy = observed.proxy(settings, now)
    before = Rollout.from_status(model_deployment.status)
    world = _with_refusal(observed.world(proxy), observed.rejection, before)
    target, problem = _target(observed, settings)
    ask = Ask(
        target=target.name if target else _current(before, world),
        replicas=spec.floor,
        spec=spec.rollout,
        suspended=spec.suspend,
    )
    before = _brought_up_to_date(observed, before, ask, world, now)
    rollout = decide(ask, before, world, now) if ask.target else before or Rollout()
    variants = plan_variants(observed, settings, proxy, now)
    rolled = _running(observed, rollout, world, ask, target)
    running = (*rolled, *variants.running)
    traffic = TrafficPlan(
        observed.exposure,
        proxy,
        backends(rollout, world, testers=bool(spec.rollout.match)),
        ask.spec.match,
        variants.weights,
        ask.spec.stickiness,
        certified=frozenset(one.revision.name for one in running if one.encrypted),
        encrypted=observed.encrypted,
        legs={dialect: routes.leg for dialect, routes in observed.live_routes.items()},
        settled=observed.settled(now),
    )
    objects = [child for one in running for child in build_children(one)]
    routes = [] if spec.suspend else _routes(model_deployment, traffic, rollout)
    return Plan(
        rollout=rollout,
        traffic=traffic,
        world=world,
        target=target,
        problem=problem,
        failure=_failure(observed, rollout, target, problem),
        gaps=_gaps(observed, proxy, settings),
        unrouted=observed.unrouted(proxy),
        variants=variants.all,
        objects=(*_policies(observed, settings, running), *objects, *routes),
        scales=scales(observed, running),
        pod_annotations=stale_pods(observed, running),
        protected=_unknown(rollout, rolled) | variants.unknown,
        routes_changed=_routes_changed(observed, routes),
        wake=wake_time(rollout, now),
    )


def _brought_up_to_date(
    observed: Observed, before: Rollout | None, ask: Ask, world: World, now: datetime
) -> Rollout | None:
    """Add what was scraped, and what a person has said since."""
    if before is None:
        return None
    scraped = observed.findings.added_to(before)
    if ask.suspended:
        return scraped
    command = observed.model_deployment.annotations.get(labels.ROLLOUT_COMMAND)
    return apply_command(scraped, command, ask=ask, world=world, now=now)


def _target(
    observed: Observed, settings: OperatorSettings
) -> tuple[Revision | None, ModelyardOperatorError | None]:
    model_deployment = observed.model_deployment
    if observed.refusal:
        return None, observed.refusal
    if observed.rejection and observed.rejection.permanent:
        return None, observed.rejection
    try:
        check_spec(model_deployment, settings)
        files = read_files(model_deployment.spec, observed.config_maps)
        revision = target_revision(
            model_deployment, observed.history, catalogue=settings.catalogue, files=files
        )
    except InvalidSpecError as problem:
        return None, problem
    return revision, observed.rejection  # one that may pass keeps nobody from trying again


def _with_refusal(
    world: World, refusal: ModelyardOperatorError | None, before: Rollout | None
) -> World:
    """A candidate whose pods the API server does not accept needs no more evidence."""
    candidate = before.candidate if before else None
    if refusal is None or not refusal.permanent or candidate is None or candidate in world.replicas:
        return world
    grounds = Judgement(Verdict.FAIL, refusal.reason, str(refusal))
    return replace(world, broken={**world.broken, candidate: grounds})


def _current(before: Rollout | None, world: World) -> str:
    """The revision to go on with while the spec cannot be built; empty when there is none."""
    if before and before.rejected and before.state is RolloutState.ROLLED_BACK:
        return before.rejected[-1]
    if before:
        return before.candidate or before.stable or ""
    return world.canary or world.primary or world.selected or ""


def _running(
    observed: Observed, rollout: Rollout, world: World, ask: Ask, target: Revision | None
) -> list[Running]:
    """Revisions of the rollout that have pods, stable first.

    A lost record is never a reason to touch its pods.
    """
    owner = observed.model_deployment
    known = {revision.name: revision for revision in observed.history}
    if target:
        known.setdefault(target.name, target)
    wanted = dict.fromkeys((rollout.stable, rollout.previous, rollout.candidate))
    found: list[Running] = []
    for revision in (known[name] for name in wanted if name in known):
        replicas = size(ask, rollout, world, revision.name)
        limits = bounds(rollout, revision.name, replicas)
        role = role_of(owner, revision, rollout)
        found.append(Running(owner, revision, replicas, limits, role))
    return found


def _unknown(rollout: Rollout, running: Iterable[Running]) -> frozenset[str]:
    """Revisions of the rollout whose record is lost."""
    used = frozenset(filter(None, (rollout.stable, rollout.candidate, rollout.previous)))
    return used - {one.revision.name for one in running}


def _policies(
    observed: Observed, settings: OperatorSettings, running: Sequence[Running]
) -> list[Manifest]:
    """Who may reach the pods, if there are any; applied before them, so that none is ever open."""
    encrypted = any(one.encrypted for one in running)
    owner = observed.model_deployment
    return build_network_policies(owner, settings, encrypted=encrypted) if running else []


def _routes(
    model_deployment: ModelDeployment, traffic: TrafficPlan, rollout: Rollout
) -> list[Manifest]:
    # Callers inside the cluster follow when all of the traffic has moved.
    selected = traffic.backends.whole or traffic.backends.primary or rollout.candidate
    services = [build_cluster_service(model_deployment, selected)] if selected else []
    return [*services, *render_routes(model_deployment, traffic)]


def _routes_changed(observed: Observed, routes: list[Manifest]) -> bool:
    wanted = {(route["kind"], route["metadata"]["name"]): route for route in routes}
    wanted = {place: route for place, route in wanted.items() if place[0] in ROUTE_KINDS}
    live = {place: child for place, child in observed.children.items() if place[0] in ROUTE_KINDS}
    return wanted.keys() != live.keys() or any(
        differs(route, live[place]) for place, route in wanted.items()
    )


def _failure(
    observed: Observed,
    rollout: Rollout,
    target: Revision | None,
    problem: ModelyardOperatorError | None,
) -> Failure | None:
    """Why the target does not serve; a revision that does is not failing over a pod in trouble."""
    if observed.model_deployment.spec.suspend:
        return None
    if target is None or problem is not None:
        return Failure.of(problem) if problem else None
    if target.name == rollout.stable and observed.ready(target.name):
        return None
    return observed.failure(target.name)


def _gaps(observed: Observed, proxy: Proxy, settings: OperatorSettings) -> tuple[str, ...]:
    """What was asked for and nobody provides."""
    if observed.refusal:
        return (str(observed.refusal),)
    spec = observed.model_deployment.spec
    return (*unsupported(spec, proxy), *unenforced(spec, settings))
