"""The story in one function: observe → look → desired → status → apply → prune.

Creation, edits, drift, a restart and the passing of time all end here; there is no second path.
Status is written before the world is touched, so that a crash in between finds the intent. Each
write is skipped when the object is already what we want, so that a restart writes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from modelyard_operator.callers import CALLERS_INTERVAL, Callers
from modelyard_operator.cluster import Cluster
from modelyard_operator.desired import desired_state
from modelyard_operator.drift import differs, stamp
from modelyard_operator.encryption import Encryption, asks_for_certificates
from modelyard_operator.errors import (
    ChildRejectedError,
    ClusterConflictError,
    ClusterForbiddenError,
    ClusterRejectedError,
    InvalidPodTemplateError,
    ModelyardOperatorError,
    NotOwnedError,
    QuotaExceededError,
)
from modelyard_operator.events import build_events
from modelyard_operator.files import config_map_names
from modelyard_operator.gateways import Gateways, asks_for_gateway
from modelyard_operator.inquiry import Inquiry, asks_again
from modelyard_operator.kinds import BACKEND_TLS_POLICY, ROUTE_KINDS
from modelyard_operator.observed import Observed
from modelyard_operator.plan import Plan
from modelyard_operator.propagation import Propagation, asks_proxy
from modelyard_operator.resources import labels
from modelyard_operator.rollout.transitions import SETTLE
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.status import build_status
from modelyard_operator.store import Key, Store, controller_uid
from modelyard_operator.strictness import hold_back
from modelyard_operator.watch import Watch

Manifest = dict[str, Any]

_EXCEEDED: Final = "exceeded quota"
_REFUSALS: Final = (
    NotOwnedError,
    InvalidPodTemplateError,
    ChildRejectedError,
    ClusterForbiddenError,
)
"""What one child alone is refused with: the others keep their place, and status tells."""

log: Final = structlog.get_logger(__name__)


@dataclass
class Reconciler:
    """Brings ModelDeployments to their specs.

    Attributes:
        store: What the watches have told.
        cluster: Where to write.
        settings: The operator's own settings.
        watch: Who asks the pods.
        inquiry: What is asked for, and not watched.
        gateways: What is known of Gateways.
        callers: Who asks whether anybody can come in.
        propagation: Who asks proxies whether they have the routes.
        encryption: Who looks at the pods' certificates.
    """

    store: Store
    cluster: Cluster
    settings: OperatorSettings
    watch: Watch
    inquiry: Inquiry = field(init=False)
    gateways: Gateways = field(init=False)
    callers: Callers = field(init=False)
    propagation: Propagation = field(init=False)
    encryption: Encryption = field(init=False)
    _accepted: dict[tuple[Key, str, str], tuple[str, str]] = field(default_factory=dict)
    """What the API server made of our last apply: hash and resourceVersion, so that a form of its
    own is not taken for drift."""

    def __post_init__(self) -> None:
        self.inquiry = Inquiry(self.cluster)
        self.gateways = Gateways(self.cluster, self.settings, self.store)
        self.callers = Callers(self.watch.scraper)
        self.propagation = Propagation(self.watch.scraper, self.settings)
        self.encryption = Encryption()

    async def reconcile(self, key: Key) -> float | None:
        """Bring one ModelDeployment's children to its spec and report its status.

        Returns:
            Seconds after which time alone will have changed something; 0 to look again at once;
            None when only an event can.

        Raises:
            ModelyardOperatorError: Something could not be written; the key is to be tried again.
        """
        observed = await self._observe(key)
        if observed is None:
            self._forget(key)
            return None
        now = datetime.now(UTC)
        proxy = observed.proxy(self.settings, now)
        findings = await self.watch.look(key, observed, observed.world(proxy), now)
        observed = replace(observed, findings=findings)
        plan = desired_state(observed, self.settings, now)
        wrote = await self._write_status(observed, plan, now)
        wrote |= await self._apply(key, observed, plan)
        wrote |= await self._prune(key, observed, plan)
        return 0.0 if wrote else _seconds_to_wake(observed, plan, now)

    async def _observe(self, key: Key) -> Observed | None:
        """Return what the store knows, after looking up what it has not heard of yet."""
        observed = self.store.observe(key)
        if observed is None:
            return None
        references = self.store.references
        unknown = references.name(key, config_map_names(observed.model_deployment.spec))
        for name in unknown:
            raw = await self.cluster.read_config_map(key.namespace, name)
            references.found(key.namespace, name, raw)
        # Named only now, so the first look knew nothing of their contents.
        known = replace(observed, config_maps=references.contents(key))
        conflicts = self.store.claims.lost(key, self.settings)
        known = replace(known, conflicts=conflicts)
        now = datetime.now(UTC)
        known = await self.inquiry.complete(known, now)
        known = await self.gateways.complete(known, now)
        held = hold_back(known, self.settings, now)
        if held.refusal:
            known = await self.gateways.complete(held, now)  # the last good one may be elsewhere
        known = await self.propagation.complete(known, now)
        known = await self.encryption.complete(known)
        return replace(known, locked_out=await self.callers.locked_out(known, now))

    async def _write_status(self, observed: Observed, plan: Plan, now: datetime) -> bool:
        model_deployment = observed.model_deployment
        status = build_status(observed, plan, now)
        if status == model_deployment.status:
            return False
        live = await self.cluster.write_status(model_deployment, status)
        self.store.put(live)
        for event in build_events(model_deployment.status, status):
            await self.cluster.post_event(model_deployment, event, now)
        return True

    async def _apply(self, key: Key, observed: Observed, plan: Plan) -> bool:
        """Apply what differs; one refused child does not keep the others from their place."""
        wrote = False
        refused: ModelyardOperatorError | None = None
        for manifest in plan.objects:
            try:
                wrote |= await self._apply_child(key, observed, stamp(manifest))
            except _REFUSALS as error:
                refused = refused or error
        wrote |= await self._scale(key, observed, plan)
        for pod, annotations in plan.pod_annotations.items():
            live = await self.cluster.annotate_pod(key.namespace, pod, dict(annotations))
            self.store.put(live)
            wrote = True
        if refused:
            self.store.reject(key, observed.model_deployment.generation, refused)
            raise refused
        # Everything was tried but for revisions without a record: what was refused is accepted now.
        accepted = observed.rejection is not None and not plan.protected
        if accepted or observed.rejection is None:
            self.store.reject(key, 0, None)
        return wrote or accepted

    async def _apply_child(self, key: Key, observed: Observed, manifest: Manifest) -> bool:
        place = (manifest["kind"], manifest["metadata"]["name"])
        live = self.store.get(key, place)
        if live and controller_uid(live) != observed.model_deployment.uid:
            # A namesake's child that the garbage collector has not reached yet.
            raise ClusterConflictError(f"{place[0]} {place[1]} belongs to another object")
        digest = manifest["metadata"]["annotations"][labels.APPLIED_HASH]
        if live:
            version = live["metadata"]["resourceVersion"]
            if self._accepted.get((key, *place)) == (digest, version):
                return False
            if not differs(manifest, live):
                return False
        try:
            applied = await self.cluster.apply(manifest, force=live is not None)
        except ClusterRejectedError as error:
            kind = InvalidPodTemplateError if place[0] == "Deployment" else ChildRejectedError
            raise kind(str(error)) from error
        except ClusterForbiddenError as error:
            if _EXCEEDED in str(error):
                raise QuotaExceededError(str(error)) from error
            raise
        except ClusterConflictError as error:
            if live is None:
                raise NotOwnedError(f"{place[0]} {place[1]} exists already: {error}") from error
            raise
        self._accepted[key, *place] = (digest, applied["metadata"]["resourceVersion"])
        self.store.put(applied)
        log.info("applied", model_deployment=key.name, namespace=key.namespace, child=place)
        return True

    async def _scale(self, key: Key, observed: Observed, plan: Plan) -> bool:
        """Size workloads that no autoscaler sizes; a new one starts from the default of 1."""
        wrote = False
        for workload, replicas in plan.scales.items():
            live = self.store.get(key, ("Deployment", workload))
            if live is None or live.get("spec", {}).get("replicas", 1) == replicas:
                continue
            await self.cluster.scale(key.namespace, workload, replicas)
            name = observed.model_deployment.name
            log.info("scaled", model_deployment=name, workload=workload, replicas=replicas)
            # The watch brings the new number; until then nothing depends on it.
            live["spec"]["replicas"] = replicas
            wrote = True
        return wrote

    async def _prune(self, key: Key, observed: Observed, plan: Plan) -> bool:
        wrote = False
        for child in orphans(observed, plan):
            await self.cluster.delete(child)
            self.store.remove(child)
            place = (child["kind"], child["metadata"]["name"])
            self._accepted.pop((key, *place), None)
            log.info("pruned", model_deployment=key.name, namespace=key.namespace, child=place)
            wrote = True
        return wrote

    def _forget(self, key: Key) -> None:
        self.store.references.forget(key)
        self.watch.forget(key)
        self.propagation.forget(key)
        self.encryption.forget(key)
        for place in [place for place in self._accepted if place[0] == key]:
            del self._accepted[place]


def orphans(observed: Observed, plan: Plan) -> Iterable[Manifest]:
    """Return children that nobody wants any more, routes before what they name."""
    if plan.problem and observed.model_deployment.status.get("rollout") is None:
        return []  # nothing is known yet of what should be there
    wanted = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in plan.objects}
    limit = observed.model_deployment.spec.rollout.revision_history_limit
    retired = [r.name for r in observed.history if ("Deployment", r.name) not in wanted]
    kept = {("ControllerRevision", name) for name in retired[:limit]}
    in_use = {BACKEND_TLS_POLICY.name} if plan.traffic.leaves_tls else set()
    found = [
        child
        for place, child in observed.children.items()
        if place not in wanted | kept
        and child["kind"] not in in_use
        and child["metadata"].get("labels", {}).get(labels.REVISION) not in plan.protected
        and "deletionTimestamp" not in child["metadata"]
    ]
    return sorted(found, key=lambda child: child["kind"] not in ROUTE_KINDS)


def _seconds_to_wake(observed: Observed, plan: Plan, now: datetime) -> float | None:
    moments = (
        plan.wake,
        observed.shifted + SETTLE if observed.shifted else None,
        asks_proxy(observed, now),
        asks_for_certificates(observed, now),
        observed.findings.due,
        asks_again(observed, now),
        asks_for_gateway(observed, now),
        now + CALLERS_INTERVAL if observed.locked_out else None,
    )
    times = [moment for moment in moments if moment and moment > now]
    return (min(times) - now).total_seconds() if times else None
