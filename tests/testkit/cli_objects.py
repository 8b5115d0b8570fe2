"""ModelDeployments as the command line reads them, and a cluster that serves prepared ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from modelyard_cli.explanation import Seen
from modelyard_cli.view import View
from modelyard_cli.words import Caller

Manifest = dict[str, Any]

NOW: Final = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
STABLE: Final = "fraud-7c9fe102"
CANDIDATE: Final = "fraud-91ab44d0"
PREVIOUS: Final = "fraud-0a0a0a0a"
PLAN: Final = [
    {"weight": 5, "bakeSeconds": 120},
    {"weight": 25, "bakeSeconds": 120},
    {"weight": 50, "bakeSeconds": 120, "pause": "Manual"},
    {"weight": 100, "bakeSeconds": 0},
]
FIGURES: Final = {
    "windowStart": "2026-05-04T11:56:00Z",
    "metrics": [
        {
            "metric": "errors",
            "stable": {"n": 1200, "bad": 3},
            "candidate": {"n": 310, "bad": 61},
            "eValue": "212345.678",
            "limitEValue": "3.25",
            "logE": ["1.5"],
            "verdict": "Fail",
        }
    ],
}


def at(seconds: float) -> str:
    """Return a moment relative to NOW, as status writes it."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(type_: str, status: str, reason: str, message: str = "") -> Manifest:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 2,
        "lastTransitionTime": at(-60),
    }


def model_deployment(spec: Mapping[str, Any] | None = None, **status: Any) -> Manifest:
    """Return a ModelDeployment that is Ready, with some parts of its status replaced."""
    usual = {
        "observedGeneration": 2,
        "url": "https://fraud.example.com/",
        "replicas": 2,
        "readyReplicas": 2,
        "stable": arm(STABLE, "7", 100),
        "rollout": {"state": "Idle", "stateSince": at(-3600)},
        "conditions": [
            condition("Ready", "True", "Serving", f"{STABLE} serves"),
            condition("Stalled", "False", "NotStalled"),
        ],
    }
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "name": "fraud",
            "namespace": "serving",
            "uid": "u1",
            "generation": 2,
            "resourceVersion": "10",
        },
        "spec": {"model": {"uri": "s3://models/fraud/7"}, **(spec or {})},
        "status": {key: value for key, value in {**usual, **status}.items() if value is not None},
    }


def rolling(state: str, spec: Mapping[str, Any] | None = None, **rollout: Any) -> Manifest:
    """Return a ModelDeployment in the second step of a rollout."""
    usual = {"state": state, "stateSince": at(-200), "step": 2, "weight": 25, "plan": PLAN}
    reason = "RolloutInProgress"
    return model_deployment(
        spec,
        stable=arm(STABLE, "7", 75),
        candidate=arm(CANDIDATE, "8", 25),
        rollout=usual | rollout,
        conditions=[condition("Ready", "False", reason, "step 2 of 4")],
    )


def arm(revision: str, version: str, weight: int, ready: int = 2) -> Manifest:
    return {
        "revision": revision,
        "version": version,
        "weight": weight,
        "replicas": 2,
        "readyReplicas": ready,
    }


def seen(manifest: Manifest) -> Seen:
    return Seen(View.of(manifest), Caller("kubectl modelyard", "", "serving"), NOW)


def controller_revision(revision: str, number: int, version: str, **model: Any) -> Manifest:
    return {
        "metadata": {"name": revision, "creationTimestamp": at(-86400 + number)},
        "revision": number,
        "data": {
            "version": version,
            "serving": {"model": {"uri": f"s3://models/fraud/{version}", **model}},
            "template": {"spec": {"containers": [{"name": "runtime", "image": f"r:{version}"}]}},
        },
    }


def pod(name: str, revision: str, **statuses: Any) -> Manifest:
    """Return a pod; ``init`` and ``runtime`` are the states of its containers."""
    made: Manifest = {
        "metadata": {
            "name": name,
            "labels": {"modelyard.dev/revision": revision},
            "creationTimestamp": at(-90),
        },
        "status": {"phase": "Pending", "conditions": []},
    }
    groups = (
        ("init", "model-fetch", "initContainerStatuses"),
        ("runtime", "runtime", "containerStatuses"),
    )
    for key, container, group in groups:
        if key in statuses:
            made["status"][group] = [{"name": container, "restartCount": 0, **statuses[key]}]
    return made


@dataclass
class PreparedCluster:
    """Answers what the commands ask from what a test prepared.

    Attributes:
        objects: The ModelDeployment, each time it is looked at; the last one stays.
        revisions: Its ControllerRevisions.
        found_pods: Its pods.
        happened: Events about it.
        lines: Lines of each container's log.
        annotations: What was written.
        asked: Services and requests that were sent.
    """

    objects: Sequence[Manifest] = ()
    revisions: Sequence[Manifest] = ()
    found_pods: Sequence[Manifest] = ()
    happened: Sequence[Manifest] = ()
    lines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    answer: Any = None
    annotations: list[tuple[str, str, str]] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    queries: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    namespace: str = "serving"
    _looked: int = 0

    def get(self, name: str) -> Manifest:
        assert name == "fraud"
        self._looked += 1
        return self.objects[min(self._looked, len(self.objects)) - 1]

    def list_all(self) -> list[Manifest]:
        return list(self.objects)

    def controller_revisions(self, _name: str) -> list[Manifest]:
        return list(self.revisions)

    def pods(self, _name: str) -> list[Manifest]:
        return list(self.found_pods)

    def events(self, _name: str) -> list[Manifest]:
        return list(self.happened)

    def watch(self, _name: str) -> Iterator[Manifest | None]:
        yield from self.objects
        yield None

    def watch_pods(self, _name: str) -> Iterator[Manifest]:
        yield from self.found_pods

    def annotate(self, name: str, key: str, value: str) -> None:
        self.annotations.append((name, key, value))

    def log(self, pod: str, query: Mapping[str, str]) -> Iterator[str]:
        self.queries.append((pod, dict(query)))
        yield from self.lines.get(pod, ())

    def ask(self, service: str, question: Any) -> Any:
        self.asked.append((service, question))
        return self.answer
