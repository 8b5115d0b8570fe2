"""``status`` of a ModelDeployment, built from one pass; pure, takes ``now``."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelyard_operator.analysis import comparison
from modelyard_operator.analysis.comparison import Comparison
from modelyard_operator.conditions import Pass, build_conditions
from modelyard_operator.failures import parse_termination_message
from modelyard_operator.failures.failure import MESSAGE_LIMIT
from modelyard_operator.observed import Observed
from modelyard_operator.plan import Plan
from modelyard_operator.resources import labels, names
from modelyard_operator.rollout.status_part import format_time
from modelyard_operator.spec import ModelDeployment
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.variants import Variant

Manifest = dict[str, Any]


def build_status(observed: Observed, plan: Plan, now: datetime) -> Manifest:
    """Return the whole ``status`` that this pass leads to.

    Args:
        observed: The cluster's state.
        plan: What the pass wants.
        now: Current time, in UTC.
    """
    model_deployment = observed.model_deployment
    before = model_deployment.status
    last_shift = last_shift_time(before, plan, now)
    seen = Pass.of(observed, plan, last_shift, now)
    status: Manifest = {
        "observedGeneration": model_deployment.generation,
        "addresses": build_addresses(model_deployment, plan.traffic),
        "replicas": sum(len(observed.pods_of(revision)) for revision in observed.workloads),
        "readyReplicas": sum(observed.ready(revision) for revision in observed.workloads),
        "selector": f"{labels.MODEL_DEPLOYMENT}={model_deployment.name}",
        "rollout": plan.rollout.to_status(),
        "model": {"phase": _model_phase(seen)},
        "traffic": _traffic(plan, last_shift),
        "conditions": [
            condition.to_status(before.get("conditions") or (), model_deployment.generation, now)
            for condition in build_conditions(seen)
        ],
    }
    status["url"] = status["addresses"][0]["url"]
    for role, revision in (("stable", plan.rollout.stable), ("candidate", plan.rollout.candidate)):
        if revision:
            status[role] = _revision(observed, plan, revision)
    if plan.variants:
        status["variants"] = _variants(observed, plan)
    if plan.failure:
        status["failure"] = plan.failure.to_status()
    return status


def last_shift_time(before: Mapping[str, Any], plan: Plan, now: datetime) -> datetime | None:
    """Return when a route was last written: now, if this pass writes one."""
    if plan.routes_changed:
        return now.replace(microsecond=0)
    kept = (before.get("traffic") or {}).get("lastShiftTime")
    return datetime.fromisoformat(kept) if kept else None


def build_addresses(model_deployment: ModelDeployment, traffic: TrafficPlan) -> list[Manifest]:
    """Return where requests go: one address a host, then the one inside the cluster."""
    exposure, proxy = traffic.exposure, traffic.proxy
    hosts = exposure.hosts if proxy.routed else ()
    scheme = "https" if proxy.encrypts(exposure) else "http"
    external = [{"type": "External", "url": f"{scheme}://{host}{exposure.path}"} for host in hosts]
    service = names.cluster_service(model_deployment.name)
    inside = f"{names.service_url(service, model_deployment.namespace)}/"
    return [*external, {"type": "Cluster", "url": inside}]


def _traffic(plan: Plan, last_shift: datetime | None) -> Manifest:
    proxy = plan.traffic.proxy.serving
    traffic: Manifest = {
        "dialect": proxy.dialect or "None",
        "profile": proxy.profile,
        "exposure": plan.traffic.exposure.model_dump(
            mode="json", by_alias=True, exclude_defaults=True
        ),
        "desiredWeights": _weights(plan.traffic.weights),
        "observedWeights": _weights(plan.world.weights),
    }
    if last_shift:
        traffic["lastShiftTime"] = format_time(last_shift)
    return traffic


def _weights(weights: Mapping[str, int]) -> list[Manifest]:
    return [{"revision": name, "weight": weight} for name, weight in sorted(weights.items())]


def _revision(observed: Observed, plan: Plan, name: str) -> Manifest:
    role = "stable" if name == plan.rollout.stable else "candidate"
    before = observed.model_deployment.status.get(role) or {}
    kept = before if before.get("revision") == name else {}
    known = {revision.name: revision.version for revision in observed.history}
    if plan.target:
        known.setdefault(plan.target.name, plan.target.version)
    return {
        "revision": name,
        "version": known.get(name, kept.get("version", "")),
        # A pod says what it fetched; without a pod, what the last one said still holds.
        **{key: kept[key] for key in ("resolvedURI", "digest") if key in kept},
        **_fetched(observed, name),
        "replicas": plan.world.replicas.get(name, 0),
        "readyReplicas": observed.ready(name),
        "weight": plan.world.weights.get(name, 0),
    }


def _variants(observed: Observed, plan: Plan) -> list[Manifest]:
    seen = comparison.from_status(observed.model_deployment.status)
    seen.update(observed.findings.comparisons)
    return [_variant(observed, one, seen.get(one.revision)) for one in plan.variants]


def _variant(observed: Observed, variant: Variant, seen: Comparison | None) -> Manifest:
    name = variant.revision
    records = (variant.target, *observed.history_of(variant.name))
    versions = {one.name: one.version for one in records if one}
    status: Manifest = {
        "name": variant.name,
        "weight": variant.observed_weight,
        "replicas": observed.replicas(name) or 0,
        "readyReplicas": observed.ready(name),
    }
    if name:
        status |= {"revision": name, "version": versions.get(name, "")}
    if variant.problem:
        status["message"] = variant.problem[:MESSAGE_LIMIT]
    if seen:
        status[comparison.FIELD] = seen.model_dump(mode="json", by_alias=True)
    return status


def _fetched(observed: Observed, revision: str) -> Manifest:
    for pod in observed.pods_of(revision):
        for status in pod.get("status", {}).get("initContainerStatuses") or ():
            ended = status.get("state", {}).get("terminated") or {}
            if status["name"] != "model-fetch" or ended.get("exitCode") != 0:
                continue
            said = parse_termination_message(ended.get("message"))
            return {key: said[key] for key in ("resolvedURI", "digest") if said.get(key)}
    return {}


def _model_phase(seen: Pass) -> str:
    if seen.plan.failure:
        return "Failed"
    target = seen.plan.target.name if seen.plan.target else None
    if seen.observed.ready(target):
        return "Ready"
    phases = {_pod_phase(pod) for pod in seen.observed.pods_of(target)}
    return next((phase for phase in ("Loading", "Downloading") if phase in phases), "Pending")


def _pod_phase(pod: Mapping[str, Any]) -> str:
    status = pod.get("status", {})
    for group, phase in (
        ("containerStatuses", "Loading"),
        ("initContainerStatuses", "Downloading"),
    ):
        states = (container.get("state", {}) for container in status.get(group) or ())
        if any("running" in state for state in states):
            return phase
    return "Pending"
