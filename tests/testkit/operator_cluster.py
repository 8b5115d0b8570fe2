"""A stand-in for ``cluster.Cluster`` that remembers what it was told, for tests without a cluster.

It knows nothing of Kubernetes' rules: those are tested on a real API server in ``tests/cluster``.
"""

import copy
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, tzinfo
from typing import Any, Self

import pytest

from modelyard_operator import reconcile
from modelyard_operator.cluster import Cluster
from modelyard_operator.errors import ClusterConflictError, ModelyardOperatorError
from modelyard_operator.kinds import Kind
from modelyard_operator.reconcile import Reconciler
from modelyard_operator.resources import labels
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.spec import ModelDeployment
from modelyard_operator.store import Key, Store
from modelyard_operator.watch import Watch
from testkit.operator_objects import NOW, accepted, attached, live, operator_settings, pod
from testkit.operator_pods import AnsweringPod, AnsweringPods

Manifest = dict[str, Any]
Place = tuple[str, str]


class Clock(datetime):
    """``datetime`` whose ``now`` a test moves."""

    at: datetime = NOW

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        assert tz is not None, "naive time"
        return cls.fromtimestamp(Clock.at.timestamp(), tz)


class RecordingCluster(Cluster):
    """Objects by kind and name, and every write in order."""

    def __init__(self) -> None:
        self.objects: dict[Place, Manifest] = {}
        self.writes: list[tuple[str, str, str]] = []
        self.events: list[tuple[str, str, str]] = []
        self.reads: list[str] = []
        self.forced: dict[Place, bool] = {}
        self.failing: dict[tuple[str, str], ModelyardOperatorError] = {}
        self.pod_events: dict[str, list[Manifest]] = {}
        self.nodes: list[Manifest] = []
        self.pods_on: dict[str, list[Manifest]] = {}
        self.questions: list[str] = []
        self.accepts: bool | None = True
        """What Gateways say of a route as soon as it is written; None: they say nothing."""
        self._version = 10

    def _write(self, verb: str, kind: str, name: str) -> None:
        if error := self.failing.get((verb, kind)):
            raise error
        self.writes.append((verb, kind, name))

    def next_version(self) -> int:
        self._version += 1
        return self._version

    async def apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        place = (manifest["kind"], manifest["metadata"]["name"])
        self._write("apply", *place)
        self.forced[place] = force
        before = self.objects.get(place, {}).get("spec", {}).get("replicas")
        made = live(manifest, version=self.next_version(), replicas=before)
        if place[0] == "HTTPRoute" and self.accepts is not None:
            made = accepted(made, status=str(self.accepts))
        if place[0] == "BackendTrafficPolicy":
            made = attached(made)
        self.objects[place] = made
        return copy.deepcopy(made)

    async def write_status(self, model_deployment: ModelDeployment, status: Manifest) -> Manifest:
        place = ("ModelDeployment", model_deployment.name)
        self._write("status", *place)
        stored = self.objects[place]
        if stored["metadata"]["resourceVersion"] != model_deployment.resource_version:
            raise ClusterConflictError("status: the object has changed")
        stored["status"] = copy.deepcopy(status)
        stored["metadata"]["resourceVersion"] = str(self.next_version())
        return copy.deepcopy(stored)

    async def scale(self, namespace: str, workload: str, replicas: int) -> None:
        assert namespace == "ml"
        self._write("scale", "Deployment", f"{workload}={replicas}")
        self.objects["Deployment", workload]["spec"]["replicas"] = replicas

    async def annotate_pod(self, namespace: str, pod: str, annotations: dict[str, str]) -> Manifest:
        assert namespace == "ml"
        self._write("annotate", "Pod", pod)
        stored = self.objects["Pod", pod]
        stored["metadata"]["annotations"] |= annotations
        stored["metadata"]["resourceVersion"] = str(self.next_version())
        return copy.deepcopy(stored)

    async def read_config_map(self, namespace: str, name: str) -> Manifest | None:
        assert namespace == "ml"
        self.reads.append(name)
        return copy.deepcopy(self.objects.get(("ConfigMap", name)))

    async def read(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
        self.questions.append(f"{kind.name} {namespace}/{name}" if namespace else name)
        if error := self.failing.get(("read", kind.name)):
            raise error
        return copy.deepcopy(self.objects.get((kind.name, name)))

    async def delete(self, child: Manifest) -> None:
        self._write("delete", child["kind"], child["metadata"]["name"])
        self.objects.pop((child["kind"], child["metadata"]["name"]), None)

    async def post_event(
        self, model_deployment: ModelDeployment, event: tuple[str, str, str], now: datetime
    ) -> None:
        del model_deployment, now
        self.events.append(event)

    async def list_events(self, namespace: str, uid: str) -> list[Manifest]:
        assert namespace == "ml"
        self.questions.append(f"events of {uid}")
        return copy.deepcopy(self.pod_events.get(uid, []))

    async def list_nodes(self) -> list[Manifest]:
        self.questions.append("nodes")
        if error := self.failing.get(("list", "Node")):
            raise error
        return copy.deepcopy(self.nodes)

    async def list_pods_on(self, node: str) -> list[Manifest]:
        self.questions.append(f"pods on {node}")
        return copy.deepcopy(self.pods_on.get(node, []))

    async def list_all(self, kind: Kind) -> AsyncIterator[Manifest]:
        if error := self.failing.get(("list", kind.name)):
            raise error
        for (name, _), raw in list(self.objects.items()):
            if name == kind.name:
                yield copy.deepcopy(raw)


class Bench:
    """One ModelDeployment with a reconciler, a store and a recording cluster."""

    def __init__(
        self,
        raw: Manifest,
        monkeypatch: pytest.MonkeyPatch,
        settings: OperatorSettings | None = None,
    ) -> None:
        monkeypatch.setattr(reconcile, "datetime", Clock)
        monkeypatch.setattr(Clock, "at", NOW)
        self.key = Key("ml", raw["metadata"]["name"])
        self.cluster = RecordingCluster()
        self.store = Store()
        self.settings = settings or operator_settings()
        self.pods = AnsweringPods()
        self.reconciler = self._reconciler()
        self.put(raw)

    @property
    def status(self) -> Manifest:
        status: Manifest = self.cluster.objects["ModelDeployment", self.key.name]["status"]
        return status

    @property
    def state(self) -> str:
        return str(self.status["rollout"]["state"])

    def put(self, raw: Manifest) -> None:
        """Somebody else writes an object: the cluster has it, and the watch tells."""
        raw = copy.deepcopy(raw)
        raw["metadata"]["resourceVersion"] = str(self.cluster.next_version())
        self.cluster.objects[raw["kind"], raw["metadata"]["name"]] = raw
        self.store.put(copy.deepcopy(raw))
        if raw["kind"] == "ConfigMap":
            self.store.note_config_map(raw, deleted=False)

    def edit(self, **spec: Any) -> None:
        raw = copy.deepcopy(self.cluster.objects["ModelDeployment", self.key.name])
        raw["spec"] |= spec
        raw["metadata"]["generation"] += 1
        self.put(raw)

    def annotate(self, command: str) -> None:
        raw = copy.deepcopy(self.cluster.objects["ModelDeployment", self.key.name])
        raw["metadata"]["annotations"][labels.ROLLOUT_COMMAND] = command
        self.put(raw)

    def restart(self) -> None:
        """A new operator process: it lists everything anew."""
        self.store = Store()
        for raw in self.cluster.objects.values():
            self.store.put(copy.deepcopy(raw))
        self.reconciler = self._reconciler()

    def _reconciler(self) -> Reconciler:
        watch = Watch(self.pods, self.settings)
        return Reconciler(self.store, self.cluster, self.settings, watch)

    def start_pods(self, *, ready: bool = True) -> None:
        """Make the pods that the Deployments ask for, and remove the others."""
        wanted = {
            f"{name}-{index}": name
            for (kind, name), raw in self.cluster.objects.items()
            if kind == "Deployment"
            for index in range(raw["spec"]["replicas"])
        }
        for kind, name in list(self.cluster.objects):
            if kind == "Pod" and name not in wanted:
                self.store.remove(self.cluster.objects.pop((kind, name)))
        for name, revision in wanted.items():
            old = self.cluster.objects.get(("Pod", name))
            if old is None or not ready or old["status"]["conditions"][-1]["status"] != "True":
                address = f"10.0.0.{name}"  # nobody parses it
                self.pods.pods.setdefault(address, AnsweringPod(revision))
                self.put(pod(revision, name, ready=ready, owner=self.key.name, podIP=address))

    async def once(self) -> float | None:
        return await self.reconciler.reconcile(self.key)

    async def until(self, state: str, weight: int | None = None, *, limit: int = 60) -> None:
        """Reconcile, start pods and let time pass until the rollout is in a state."""
        for _ in range(limit):
            delay = await self.once()
            self.start_pods()
            rollout = self.status["rollout"]
            if rollout["state"] == state and weight in {None, rollout.get("weight", 0)}:
                return
            Clock.at += timedelta(seconds=delay or 0)
        raise AssertionError(f"never {state}: {self.status['rollout']}")

    async def rest(self, *, limit: int = 200) -> None:
        """Go on until nothing is left to do."""
        for _ in range(limit):
            delay = await self.once()
            if delay is None:
                return
            self.start_pods()
            Clock.at += timedelta(seconds=delay)
        raise AssertionError("never at rest")
