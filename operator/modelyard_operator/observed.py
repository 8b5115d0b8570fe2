"""What the operator sees of one ModelDeployment: plain data, taken from the store in one go."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from modelyard_operator.analysis.findings import Findings
from modelyard_operator.devices import Inventory
from modelyard_operator.errors import InvalidSpecError, ModelyardOperatorError
from modelyard_operator.failures import Failure, RevisionView, find_failure, find_shortage
from modelyard_operator.files import Contents
from modelyard_operator.pods import is_placed, is_ready
from modelyard_operator.resources import labels, names
from modelyard_operator.resources.service import selected_revision
from modelyard_operator.revision import Revision
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.state import World
from modelyard_operator.rollout.transitions import SETTLE
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.spec import AcceleratorSpec, ExposureSpec, ModelDeployment
from modelyard_operator.traffic.capabilities import splits
from modelyard_operator.traffic.conflicts import Conflict, conflict_problem, without_lost
from modelyard_operator.traffic.dialects import live_routes, read_routes
from modelyard_operator.traffic.plan import LiveRoutes
from modelyard_operator.traffic.proxy import GatewayView, Problem, Proxy, Routed, resolve_proxy

Manifest = dict[str, Any]
ChildKey = tuple[str, str]
"""Kind and name of a child; all children live in their owner's namespace."""


@dataclass(frozen=True)
class Observed:
    """One ModelDeployment with everything that belongs to it.

    Attributes:
        model_deployment: The custom resource.
        children: Objects that carry its label and are owned by it.
        pods: Pods that carry its label.
        rejection: Why the API server refused a child of this generation, if it did.
        config_maps: ``data`` of the ConfigMaps that the spec names; None where there is no such one.
        findings: What the pods say of themselves.
        events: The kubelet's Events by uid of the pod, of the pods that nothing else explains.
        inventory: Devices of the cluster, looked up while pods wait for one; None when unknown.
        locked_out: A ready pod says that it has no key to let anybody in with.
        gateway: What was found out about the Gateway that the routes are attached to, if any is.
        refusal: Why the exposure is the last good one instead of what is asked for, if it is.
        conflicts: Hosts that an older ModelDeployment has.
        lag: What the proxy has been seen not to have taken over yet of the live routes.
        encrypted: Revisions whose pods speak TLS with a certificate that is trusted.
        untrusted: Why one that is meant to does not.
    """

    model_deployment: ModelDeployment
    children: Mapping[ChildKey, Manifest] = field(default_factory=dict)
    pods: tuple[Manifest, ...] = ()
    rejection: ModelyardOperatorError | None = None
    config_maps: Mapping[str, Contents | None] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    events: Mapping[str, tuple[Manifest, ...]] = field(default_factory=dict)
    inventory: Inventory | None = None
    locked_out: bool = False
    gateway: GatewayView | None = None
    refusal: InvalidSpecError | None = None
    conflicts: tuple[Conflict, ...] = ()
    lag: Problem | None = None
    encrypted: frozenset[str] = frozenset()
    untrusted: Problem | None = None

    @property
    def history(self) -> tuple[Revision, ...]:
        """Every revision on record that a rollout may go to, newest first."""
        return self.history_of(None)

    def history_of(self, variant: str | None) -> tuple[Revision, ...]:
        """Return every revision on record of a variant, newest first; None means of none."""
        records = (
            Revision.from_manifest(child)
            for (kind, _), child in self.children.items()
            if kind == "ControllerRevision" and variant_of(child) == variant
        )
        return tuple(sorted(records, key=lambda revision: revision.number, reverse=True))

    @cached_property
    def live_routes(self) -> Mapping[str, LiveRoutes]:
        """What the routes of each dialect say that there are objects of."""
        return live_routes(self.model_deployment.name, self.children)

    @property
    def workloads(self) -> dict[str, Manifest]:
        """Live Deployments, by revision."""
        return {
            name: child for (kind, name), child in self.children.items() if kind == "Deployment"
        }

    @property
    def variants(self) -> dict[str, str]:
        """Names of the variants, by each live revision of one."""
        named = {name: variant_of(child) for name, child in self.workloads.items()}
        return {name: variant for name, variant in named.items() if variant}

    def replicas(self, revision: str) -> int | None:
        """Return the pods that a revision is meant to have; None when it is not live."""
        workload = self.workloads.get(revision)
        return None if workload is None else int(workload.get("spec", {}).get("replicas", 1))

    def pods_of(self, revision: str | None) -> tuple[Manifest, ...]:
        """Return the pods of a revision that are not on their way out."""
        return tuple(
            pod
            for pod in self.pods
            if pod["metadata"].get("labels", {}).get(labels.REVISION) == revision
            and "deletionTimestamp" not in pod["metadata"]
        )

    def ready_pods(self, revision: str | None) -> tuple[Manifest, ...]:
        """Return the pods of a revision that answer requests."""
        return tuple(pod for pod in self.pods_of(revision) if is_ready(pod))

    def ready(self, revision: str | None) -> int:
        """Return how many pods of a revision are ready."""
        return len(self.ready_pods(revision))

    def view(self, revision: str | None) -> RevisionView:
        """Return what is known of a revision's trouble."""
        pods = sorted(
            (pod for pod in self.pods_of(revision) if not is_ready(pod)),
            key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")),
            reverse=True,
        )
        # Only a pod without a node may lack a device, and reading a record takes time.
        waits = any(not is_placed(pod) for pod in pods)
        accelerator = self._accelerator(revision) if waits else None
        devices = self.inventory.count(accelerator) if self.inventory and accelerator else None
        return RevisionView(
            revision=revision,
            pods=tuple(pods),
            workload=self.workloads.get(revision or "", {}),
            accelerator=accelerator,
            events=self.events,
            devices=devices,
        )

    def failure(self, revision: str | None) -> Failure | None:
        """Return why a revision does not serve; None when nothing says that it will not."""
        return find_failure(self.view(revision))

    def shortage(self, revision: str | None) -> Failure | None:
        """Return what the cluster lacks for a revision's pods; None when each has its place."""
        return find_shortage(self.view(revision))

    @property
    def exposure(self) -> ExposureSpec:
        """What the user asks for, without the hosts that are another's."""
        return without_lost(self.model_deployment.spec.exposure, self.conflicts)

    @property
    def shifted(self) -> datetime | None:
        """When a route was last written; None when none ever was."""
        shifted = (self.model_deployment.status.get("traffic") or {}).get("lastShiftTime")
        return datetime.fromisoformat(shifted) if shifted else None

    def settled(self, now: datetime) -> bool:
        """Tell whether the proxies have had time to follow the last change of a route."""
        return self.shifted is None or now >= self.shifted + SETTLE

    def proxy(self, settings: OperatorSettings, now: datetime) -> Proxy:
        """Return the proxy that the routes are written for."""
        traffic = self.model_deployment.status.get("traffic") or {}
        settled = self.settled(now)
        live = self.live_routes
        before = Routed(
            resolved=traffic.get("dialect"),
            profile=traffic.get("profile"),
            live={dialect: routes.written_for for dialect, routes in live.items()},
            confirmed={one for one, routes in live.items() if settled and not routes.problem},
        )
        proxy = resolve_proxy(self.model_deployment.spec.exposure, settings, before, self.gateway)
        if proxy.routed and not self.exposure.hosts:
            return replace(proxy, withheld=True, leaving=None)
        return proxy

    def unrouted(self, proxy: Proxy) -> Problem | None:
        """Return why a proxy does not have the routes that are written for it, or cannot."""
        routes = read_routes(proxy, self.model_deployment.name, self.children)
        held = Problem(self.refusal.reason, str(self.refusal)) if self.refusal else None
        return (
            held
            or conflict_problem(self.model_deployment.spec.exposure, self.conflicts)
            or proxy.problem
            or routes.problem
        )

    def world(self, proxy: Proxy) -> World:
        """Return what the rollout machine looks at."""
        name = self.model_deployment.name
        service = self.children.get(("Service", names.cluster_service(name)))
        selected = selected_revision(service) if service else None
        routes = read_routes(proxy.serving, name, self.children)
        variants = self.variants
        live = [revision for revision in self.workloads if revision not in variants]
        return World(
            ready={revision: self.ready(revision) for revision in live},
            replicas={revision: self.replicas(revision) or 0 for revision in live},
            primary=routes.backends.primary if proxy.routed else selected,
            canary=routes.backends.canary,
            canary_weight=routes.backends.weight,
            followed=routes.problem is None and self.lag is None,
            selected=selected,
            splits=splits(proxy),
            judgement=self.findings.judgement,
            shadow=self.findings.shadow,
            signature_change=self.findings.signature_change,
            leaving=sum("deletionTimestamp" in pod["metadata"] for pod in self.pods),
            placed={revision: sum(map(is_placed, self.pods_of(revision))) for revision in live},
            history=tuple(revision.name for revision in self.history),
            broken=self._broken(live),
            unschedulable=self._unschedulable(live),
            signature_unknown=self.findings.signature_unknown,
        )

    def _broken(self, live: Iterable[str]) -> dict[str, Judgement]:
        failures = {revision: self.failure(revision) for revision in live}
        return {
            revision: Judgement(Verdict.FAIL, failure.reason, f"{failure.message} ({failure.hint})")
            for revision, failure in failures.items()
            if failure is not None and failure.hard
        }

    def _unschedulable(self, live: Iterable[str]) -> dict[str, str]:
        shortages = {revision: self.shortage(revision) for revision in live}
        return {
            revision: shortage.message
            for revision, shortage in shortages.items()
            if shortage is not None
        }

    def _accelerator(self, revision: str | None) -> AcceleratorSpec | None:
        """What a revision's pods ask for, which an edit may have changed since."""
        variant = self.variants.get(revision or "")
        for record in self.history_of(variant):
            if record.name == revision:
                asked = record.serving.get("accelerator")
                return AcceleratorSpec.model_validate(asked) if asked is not None else None
        return self.model_deployment.spec.accelerator


def variant_of(child: Manifest) -> str | None:
    """Return the variant that a child belongs to; None: it is no variant's."""
    name = (child["metadata"].get("labels") or {}).get(labels.VARIANT)
    return name if isinstance(name, str) else None
