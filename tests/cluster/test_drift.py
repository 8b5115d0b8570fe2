"""What others do to the operator's objects is undone; what is not its own it leaves alone."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from testkit.cluster_api import CHILD_KINDS, Manifest, condition, revision_of
from testkit.cluster_lab import Lab, Served

pytestmark = [pytest.mark.cluster, pytest.mark.together]

REPAIR_S: Final = 20.0
SCALING: Final = {
    "maxReplicas": 2,
    "metrics": [{"type": "Resource", "resource": "cpu", "target": 90}],
}


def _leaf(*path: str | int) -> Callable[[Manifest], Any]:
    def read(manifest: Manifest) -> Any:
        value: Any = manifest
        for part in path:
            value = value[part]
        return value

    return read


CHANGES: Final[dict[str, tuple[Manifest, Callable[[Manifest], Any]]]] = {
    "Deployment": (
        {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 3}}}},
        _leaf("spec", "strategy", "rollingUpdate", "maxSurge"),
    ),
    "Service": (
        {"spec": {"selector": {"modelyard.dev/revision": "another"}}},
        _leaf("spec", "selector", "modelyard.dev/revision"),
    ),
    "Ingress": (
        {"metadata": {"annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "1"}}},
        _leaf("metadata", "annotations", "nginx.ingress.kubernetes.io/proxy-body-size"),
    ),
    "ConfigMap": ({"data": {"directives.json": "{}"}}, _leaf("data", "directives.json")),
    "HorizontalPodAutoscaler": ({"spec": {"maxReplicas": 9}}, _leaf("spec", "maxReplicas")),
    "NetworkPolicy": ({"spec": {"ingress": [{}]}}, _leaf("spec", "ingress")),
    "PodDisruptionBudget": ({"spec": {"maxUnavailable": 5}}, _leaf("spec", "maxUnavailable")),
    "ControllerRevision": (
        {"metadata": {"labels": {"modelyard.dev/revision": "another"}}},
        _leaf("metadata", "labels", "modelyard.dev/revision"),
    ),
}


def _children(served: Served) -> list[tuple[str, Manifest]]:
    return [(kind, child) for kind in CHILD_KINDS for child in served.all(kind)]


def test_every_child_comes_back_as_it_was(lab: Lab) -> None:
    with lab.bench("drift") as bench:
        served = bench.serve("fraud", scaling=SCALING)
        ready = served.until_ready()
        before = _children(served)
        assert {kind for kind, _ in before} == set(CHILD_KINDS)
        for kind, child in before:
            name = child["metadata"]["name"]
            read = CHANGES[kind][1]
            if kind != "ConfigMap" or name.endswith("-directives"):
                bench.lab.api.patch(kind, bench.namespace, name, CHANGES[kind][0])
                bench.lab.api.until(kind, bench.namespace, name, _same(read, child), REPAIR_S)
        for kind, child in before:
            name, uid = child["metadata"]["name"], child["metadata"]["uid"]
            bench.lab.api.delete(kind, bench.namespace, name)
            bench.lab.api.until(kind, bench.namespace, name, _made_anew(uid), REPAIR_S)
        again = served.until_ready()
        after = _children(served)
        assert [(kind, _core(child)) for kind, child in after] == [
            (kind, _core(child)) for kind, child in before
        ]
        assert revision_of(again, "stable") == revision_of(ready, "stable")
        served.until_answered()
        assert served.route.version() == 1


def _same(read: Callable[[Manifest], Any], wanted: Manifest) -> Callable[[Manifest], bool]:
    return lambda seen: bool(read(seen) == read(wanted))


def _made_anew(uid: str) -> Callable[[Manifest], bool]:
    return lambda seen: bool(seen["metadata"]["uid"] != uid)


def _core(child: Manifest) -> Manifest:
    """What the operator decides; the rest is the API server's and other controllers'."""
    spec = {
        key: value
        for key, value in child.get("spec", {}).items()
        if key not in {"clusterIP", "clusterIPs", "replicas"}
    }
    metadata = child["metadata"]
    return {"name": metadata["name"], "spec": spec, "data": child.get("data")}


def test_a_strangers_object_is_left_alone(lab: Lab) -> None:
    with lab.bench("name-taken") as bench:
        theirs = {
            "metadata": {"name": "fraud", "labels": {"owner": "somebody"}},
            "spec": {"selector": {"app": "theirs"}, "ports": [{"name": "web", "port": 81}]},
        }
        made = bench.lab.api.create("Service", bench.namespace, theirs)
        served = bench.serve("fraud")
        taken = served.until(lambda seen: condition(seen, "Ready").get("reason") == "NameTaken")
        assert condition(taken, "Stalled")["status"] == "True"
        assert "Service fraud" in condition(taken, "Ready")["message"]
        event = served.until_event("NameTaken")
        assert event["count"] == 1
        live = bench.lab.api.need("Service", bench.namespace, "fraud")
        assert live["spec"] == made["spec"]
        assert live["metadata"]["labels"] == {"owner": "somebody"}
        assert "ownerReferences" not in live["metadata"]


def test_a_proxy_that_cannot_divide_is_told_of(lab: Lab) -> None:
    with lab.bench("unsupported") as bench:
        exposure = {"ingressClassName": "unheard-of", "strict": False}
        served = bench.serve("fraud", exposure=exposure)
        seen = served.until_ready()
        gaps = condition(seen, "FeaturesUnsupported")
        assert (gaps["status"], gaps["reason"]) == ("True", "ProfileLimit")
        assert "rollout.steps: IngressClass unheard-of has no profile" in gaps["message"]
        assert seen["status"]["traffic"]["profile"] == "none"
        (ingress,) = served.all("Ingress")
        assert ingress["spec"]["ingressClassName"] == "unheard-of"
