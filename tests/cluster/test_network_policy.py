"""Who may reach the pods of a model: the policies as written, and the traffic where it is enforced.

The cluster of the cluster tool takes NetworkPolicies and enforces none; so they are evaluated over the
pods that exist. Where a policy is seen to hold, connections are tried as well.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from testkit.cluster_api import Manifest
from testkit.cluster_lab import (
    OPERATOR_NAMESPACE,
    OPERATOR_SELECTOR,
    PROMETHEUS_NAMESPACE,
    SLIM_IMAGE,
    Bench,
    Lab,
    Served,
)
from testkit.network_policies import Place, may_reach

pytestmark = pytest.mark.cluster

HTTP, GRPC, METRICS, OTHER = 8080, 8081, 8082, 9999
REQUESTS: Final = {HTTP, GRPC}
LABEL: Final = "kubernetes.io/metadata.name"
PROXIES: Final = {
    "Ingress/traefik": ("traefik", "app=traefik"),
    "Gateway/traefik": ("traefik", "app=traefik"),
    "Gateway/envoy-gateway": (
        "envoy-gateway-system",
        "gateway.envoyproxy.io/owning-gateway-namespace=gateways",
    ),
}
"""Namespace and labels of the pods that send on what the tests ask."""
_TRY: Final = """
import json, socket, sys

def opens(port):
    try:
        socket.create_connection((sys.argv[1], port), timeout=3).close()
    except OSError:
        return False
    return True

print(json.dumps([port for port in map(int, sys.argv[2:]) if opens(port)]))
"""


@pytest.fixture(scope="module")
def friends(lab: Lab) -> Iterator[Bench]:
    with lab.bench("friends") as lent:
        yield lent


@pytest.fixture(scope="module")
def strangers(lab: Lab) -> Iterator[Bench]:
    with lab.bench("strangers") as lent:
        yield lent


@pytest.fixture(scope="module")
def model(bench: Bench, friends: Bench) -> Served:
    served = bench.serve("fraud", exposure={"allowFrom": [friends.namespace]})
    served.until_ready()
    return served


def reached(served: Served, source: Manifest) -> set[int]:
    """Return the ports of a model's pod that the live policies open to another pod."""
    lab = served.bench.lab
    (target,) = served.pods()
    policies = lab.api.all("NetworkPolicy", served.namespace)
    here, there = _place(lab, source), _place(lab, target)
    ports = (HTTP, GRPC, METRICS, OTHER)
    return {port for port in ports if may_reach(policies, here, there, port)}


def idle(bench: Bench, name: str, **labels: str) -> Manifest:
    """Create a pod that no node takes: policies look at its labels alone."""
    containers = [{"name": "idle", "image": SLIM_IMAGE}]
    spec = {"containers": containers, "nodeSelector": {"modelyard.dev/no-node": "has-this"}}
    body = {"metadata": {"name": name, "labels": labels}, "spec": spec}
    return bench.lab.api.create("Pod", bench.namespace, body)


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_proxies_may_ask(lab: Lab, model: Served, proxy: str) -> None:
    pods = lab.api.all("Pod", *PROXIES[proxy])
    if not pods:
        pytest.skip(f"the cluster has no {proxy}")
    for pod in pods:
        assert reached(model, pod) == REQUESTS


def test_the_operator_reads_metrics_and_asks_nothing_else(lab: Lab, model: Served) -> None:
    (operator,) = lab.api.all("Pod", OPERATOR_NAMESPACE, OPERATOR_SELECTOR)
    assert reached(model, operator) == {METRICS}


def test_the_own_namespace_and_friends_may_ask_and_strangers_nothing(
    model: Served, bench: Bench, friends: Bench, strangers: Bench
) -> None:
    (own,) = model.pods()
    assert reached(model, own) == REQUESTS
    assert reached(model, idle(bench, "client")) == REQUESTS
    assert reached(model, idle(friends, "friend")) == REQUESTS
    assert reached(model, idle(strangers, "stranger")) == set()
    disguises = own["metadata"]["labels"] | {"app.kubernetes.io/component": "operator"}
    assert reached(model, idle(strangers, "disguised", **disguises)) == set()


def test_prometheus_reads_metrics_alone(lab: Lab, model: Served) -> None:
    (target,) = model.pods()
    policies = lab.api.all("NetworkPolicy", model.namespace)
    prometheus = Place(PROMETHEUS_NAMESPACE, {}, {LABEL: PROMETHEUS_NAMESPACE})
    place = _place(lab, target)
    ports = {port for port in (HTTP, METRICS) if may_reach(policies, prometheus, place, port)}
    assert ports == {METRICS}


def test_connections_are_opened_and_refused_as_the_policies_say(
    model: Served, bench: Bench, friends: Bench, strangers: Bench
) -> None:
    if not _enforces(bench, strangers):
        pytest.skip("this cluster takes NetworkPolicies and does not enforce them")
    (pod,) = model.pods()
    address = pod["status"]["podIP"]
    assert _tried(friends, "friend-asks", address) == REQUESTS
    assert _tried(bench, "client-asks", address) == REQUESTS
    assert _tried(strangers, "stranger-asks", address) == set()
    model.until_answered()
    model.edit(exposure={"networkPolicy": "None"})
    model.api.until_gone("NetworkPolicy", model.namespace, model.name)
    assert _tried(strangers, "stranger-again", address) == REQUESTS | {METRICS}


def _enforces(bench: Bench, strangers: Bench) -> bool:
    """Tell whether a policy that lets nobody in keeps somebody out."""
    api = bench.lab.api
    spec = _pod("server", "-m", "http.server", str(HTTP))
    probe = {"httpGet": {"path": "/", "port": HTTP}, "periodSeconds": 1}
    spec["spec"]["containers"][0]["readinessProbe"] = probe
    spec["metadata"]["labels"] = {"app": "closed"}
    api.create("Pod", bench.namespace, spec)
    closed = {"podSelector": {"matchLabels": {"app": "closed"}}, "policyTypes": ["Ingress"]}
    api.create("NetworkPolicy", bench.namespace, {"metadata": {"name": "closed"}, "spec": closed})
    server = api.until("Pod", bench.namespace, "server", _is_ready)
    return HTTP not in _tried(strangers, "prober", server["status"]["podIP"])


def _tried(bench: Bench, name: str, address: str) -> set[int]:
    """Return the ports that a pod of a namespace can open a connection to."""
    ports = [str(port) for port in (HTTP, GRPC, METRICS)]
    bench.lab.api.create("Pod", bench.namespace, _pod(name, "-c", _TRY, address, *ports))
    bench.lab.api.until("Pod", bench.namespace, name, _has_ended)
    said = bench.lab.kubectl("logs", name, f"--namespace={bench.namespace}").stdout
    return set(json.loads(said))


def _pod(name: str, *arguments: str) -> dict[str, Any]:
    container = {
        "name": "python",
        "image": SLIM_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", *arguments],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": name}, "spec": spec}


def _place(lab: Lab, pod: Manifest) -> Place:
    return Place.of(pod, lab.api.need("Namespace", "", pod["metadata"]["namespace"]))


def _has_ended(pod: Manifest) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Succeeded")


def _is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
