"""``desired_state``: from spec and observation to everything that one pass wants. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from modelyard_operator.drift import differs
from modelyard_operator.errors import InvalidSpecError, ModelyardOperatorError
from modelyard_operator.failures import Failure
from modelyard_operator.files import read_files
from modelyard_operator.kinds import ROUTE_KINDS
from modelyard_operator.observed import Observed
from modelyard_operator.plan import Plan
from modelyard_operator.resources import labels, names
from modelyard_operator.resources.autoscaler import build_autoscaler
from modelyard_operator.resources.config_maps import build_directives, build_files
from modelyard_operator.resources.directives import directives_hash
from modelyard_operator.resources.disruption_budget import build_disruption_budget
from modelyard_operator.resources.network_policy import build_network_policies, unenforced
from modelyard_operator.resources.service import build_cluster_service, build_revision_service
from modelyard_operator.resources.workload import build_workload
from modelyard_operator.revision import Revision, build_controller_revision, target_revision
from modelyard_operator.roles import Role, role_of
from modelyard_operator.rollout.commands import apply_command
from modelyard_operator.rollout.freeze import InvalidFreezeError, check_freeze
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.machine import decide, wake_time
from modelyard_operator.rollout.routing import backends
from modelyard_operator.rollout.sizing import bounds, size
from modelyard_operator.rollout.state import Ask, Rollout, RolloutState, World
from modelyard_operator.runtime_contract import SUPPORTED_SCHEMES, scheme
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.spec import ModelDeployment
from modelyard_operator.traffic.capabilities import unsupported
from modelyard_operator.traffic.dialects import render_routes
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import Proxy

Manifest = dict[str, Any]


class UnsupportedURISchemeError(InvalidSpecError):
    """The URI's scheme has no loader."""

    reason = "UnsupportedURIScheme"
    hint = "copy the artifact to a storage that is supported"


class ImageNotAllowedError(InvalidSpecError):
    """The image does not come from a registry that the operator's settings allow."""

    reason = "ImageNotAllowed"
    hint = "use an allowed registry, or ask the operator's administrator"


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
        replicas=_replicas(model_deployment),
        spec=spec.rollout,
        suspended=spec.suspend,
    )
    before = _brought_up_to_date(observed, before, ask, world, now)
    rollout = decide(ask, before, world, now) if ask.target else before or Rollout()
    routes_to = backends(rollout, world, testers=bool(spec.rollout.match))
    traffic = TrafficPlan(observed.exposure, proxy, routes_to, match=spec.rollout.match)
    revisions = _live_revisions(observed, rollout, target)
    sizes = {one.name: size(ask, rollout, world, one.name) for one in revisions}
    objects = [
        child
        for revision in revisions
        for child in _children(model_deployment, revision, rollout, replicas=sizes[revision.name])
    ]
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
        objects=(*_policies(observed, settings, objects), *objects, *routes),
        scales=_scales(observed, world, sizes),
        pod_annotations=_pod_annotations(observed, rollout, revisions),
        protected=frozenset(filter(None, (rollout.stable, rollout.candidate, rollout.previous)))
        - {revision.name for revision in revisions},
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


def check_spec(model_deployment: ModelDeployment, settings: OperatorSettings) -> None:
    """Check what the schema cannot: what depends on this operator's version and settings.

    Raises:
        InvalidSpecError: The message names the field, what was expected and what was got.
    """
    uri = model_deployment.spec.model.uri
    if scheme(uri) not in SUPPORTED_SCHEMES:
        known = ", ".join(sorted(SUPPORTED_SCHEMES))
        raise UnsupportedURISchemeError(
            f"spec.model.uri: expected one of the schemes {known}, got {scheme(uri)!r}"
        )
    image = model_deployment.spec.runtime.image
    allowed = settings.allowed_registries
    if image and allowed and not image.startswith(allowed):
        raise ImageNotAllowedError(
            f"spec.runtime.image: expected an image from {', '.join(allowed)}, got {image!r}"
        )
    for number, window in enumerate(model_deployment.spec.rollout.freeze):
        try:
            check_freeze(window)
        except InvalidFreezeError as error:
            raise InvalidSpecError(f"spec.rollout.freeze[{number}]: {error}") from error


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


def _replicas(model_deployment: ModelDeployment) -> int:
    spec = model_deployment.spec
    if spec.scaling:
        return spec.scaling.min_replicas
    return 1 if spec.replicas is None else spec.replicas


def _live_revisions(
    observed: Observed, rollout: Rollout, target: Revision | None
) -> list[Revision]:
    """Revisions that have pods, stable first; a lost record is never a reason to touch its pods."""
    known = {revision.name: revision for revision in observed.history}
    if target:
        known.setdefault(target.name, target)
    wanted = dict.fromkeys((rollout.stable, rollout.previous, rollout.candidate))
    return [known[name] for name in wanted if name in known]


def _children(
    model_deployment: ModelDeployment, revision: Revision, rollout: Rollout, *, replicas: int
) -> list[Manifest]:
    """Everything of one revision; an autoscaler only while it has pods."""
    role, scaling = role_of(model_deployment, revision, rollout), model_deployment.spec.scaling
    objects = _revision_objects(model_deployment, revision, role)
    if scaling is None or not replicas:
        return objects
    limits = bounds(rollout, revision.name, replicas)
    return [*objects, build_autoscaler(model_deployment, scaling, revision.name, bounds=limits)]


def _revision_objects(
    model_deployment: ModelDeployment, revision: Revision, role: Role
) -> list[Manifest]:
    return [
        build_controller_revision(model_deployment, revision),
        build_files(model_deployment, revision),
        build_directives(model_deployment, revision.name, *role),
        build_workload(model_deployment, revision),
        build_revision_service(model_deployment, revision.name),
        build_disruption_budget(model_deployment, revision.name),
    ]


def _policies(
    observed: Observed, settings: OperatorSettings, children: Sequence[Manifest]
) -> list[Manifest]:
    """Who may reach the pods, if there are any; applied before them, so that none is ever open."""
    return build_network_policies(observed.model_deployment, settings) if children else []


def _scales(observed: Observed, world: World, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the pods of the revisions that no autoscaler rules."""
    return {
        name: replicas
        for name, replicas in sizes.items()
        if not _autoscaled(observed, world, name, replicas)
    }


def _autoscaled(observed: Observed, world: World, revision: str, replicas: int) -> bool:
    """Tell whether an autoscaler rules the number of pods; it does not move one that is at zero."""
    if ("HorizontalPodAutoscaler", revision) in observed.children:
        return world.replicas.get(revision) != 0
    scaling = observed.model_deployment.spec.scaling
    return scaling is not None and replicas > 0 and world.replicas.get(revision) != 0


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


def _pod_annotations(
    observed: Observed, rollout: Rollout, revisions: Iterable[Revision]
) -> Mapping[str, Mapping[str, str]]:
    """Pods whose mounted directives may be old: an annotation makes the kubelet look again."""
    owner = observed.model_deployment
    stale: dict[str, Mapping[str, str]] = {}
    for revision in revisions:
        wanted = directives_hash(owner, *role_of(owner, revision, rollout))
        changed = _changed_at(observed, names.directives(revision.name))
        for pod in observed.pods_of(revision.name):
            metadata = pod["metadata"]
            said = (metadata.get("annotations") or {}).get(labels.DIRECTIVES_HASH)
            fresh = said is None and (changed is None or metadata["creationTimestamp"] >= changed)
            if said != wanted and not fresh:
                stale[metadata["name"]] = {labels.DIRECTIVES_HASH: wanted}
    return stale


def _changed_at(observed: Observed, name: str) -> str | None:
    """When a ConfigMap was last changed; None if it is still what it was created with."""
    live = observed.children.get(("ConfigMap", name))
    if live is None:
        return None
    metadata = live["metadata"]
    times = [entry.get("time", "") for entry in metadata.get("managedFields") or ()]
    last = max(times, default="")
    return last if last > metadata["creationTimestamp"] else None
