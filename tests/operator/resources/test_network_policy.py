"""Who may reach the pods of a ModelDeployment; and that the evaluator that says so is right."""

from typing import Any

import pytest

from modelyard_operator.desired import desired_state
from modelyard_operator.observed import Observed
from modelyard_operator.resources import labels
from modelyard_operator.resources.network_policy import NAMESPACE, build_network_policies
from testkit.network_policies import Place, may_reach
from testkit.operator_cluster import Bench
from testkit.operator_objects import (
    NOW,
    model_deployment,
    operator_settings,
    raw_model_deployment,
)

HTTP, GRPC, METRICS, HTTPS, GRPCS, OTHER = 8080, 8081, 8082, 8443, 8444, 15090
TOLD: dict[str, Any] = {
    "proxy_namespaces": ["traefik", "gateways"],
    "prometheus_namespaces": ["monitoring"],
    "pod_namespace": "modelyard-system",
}
OPERATOR = {"app.kubernetes.io/component": "operator", "app.kubernetes.io/instance": "any"}


def place(namespace: str, **found: str) -> Place:
    return Place(namespace, found, {NAMESPACE: namespace})


MODEL = Place("ml", labels.for_revision("fraud", "fraud-a"), {NAMESPACE: "ml"})
CANDIDATE = Place("ml", labels.for_revision("fraud", "fraud-b"), {NAMESPACE: "ml"})
BROTHER = place("ml", app="client")
SPY = Place("spies", labels.for_revision("fraud", "fraud-a"), {NAMESPACE: "spies"})
PROXY = place("traefik", app="traefik")
SCRAPER = Place("modelyard-system", OPERATOR, {NAMESPACE: "modelyard-system"})


def reach(
    source: Place,
    exposure: Any = None,
    target: Place = MODEL,
    *,
    encrypted: bool = False,
    **settings: Any,
) -> set[int]:
    """Return the ports that a pod reaches."""
    owner = model_deployment(exposure=exposure or {})
    told = operator_settings(**(TOLD | settings))
    policies = build_network_policies(owner, told, encrypted=encrypted)
    ports = (HTTP, GRPC, METRICS, HTTPS, GRPCS, OTHER)
    return {port for port in ports if may_reach(policies, source, target, port)}


@pytest.mark.parametrize(
    ("source", "ports"),
    [
        (PROXY, {HTTP, GRPC}),
        (place("gateways"), {HTTP, GRPC}),
        (BROTHER, {HTTP, GRPC}),
        (CANDIDATE, {HTTP, GRPC}),
        (place("friends"), {HTTP, GRPC}),
        (SCRAPER, {METRICS}),
        (place("modelyard-system", app="else"), set()),
        (place("monitoring"), {METRICS}),
        (SPY, set()),
        (Place("spies", OPERATOR, {NAMESPACE: "spies"}), set()),
        (Place("spies", {}, {NAMESPACE: "spies", "team": "traefik"}), set()),
    ],
)
def test_who_reaches_what(source: Place, ports: set[int]) -> None:
    assert reach(source, {"allowFrom": ["friends"]}) == ports
    assert reach(source, {"allowFrom": ["friends"]}, CANDIDATE) == ports


def test_pods_with_ports_for_tls_are_asked_there_too() -> None:
    """The operator looks at the certificate."""
    assert reach(PROXY, encrypted=True) == {HTTP, GRPC, HTTPS, GRPCS}
    assert reach(SCRAPER, encrypted=True) == {METRICS, HTTPS}
    assert reach(SPY, encrypted=True) == set()


def test_only_those_that_are_listed_are_friends() -> None:
    assert reach(place("friends")) == set()


def test_an_operator_that_was_told_nothing_cuts_nobody_off_and_shows_nobody_metrics() -> None:
    for source in (PROXY, SPY, BROTHER):
        assert reach(source, proxy_namespaces=[], prometheus_namespaces=[]) == {HTTP, GRPC}
    assert reach(SCRAPER, proxy_namespaces=[], prometheus_namespaces=[]) == {HTTP, GRPC, METRICS}
    assert reach(place("monitoring"), prometheus_namespaces=[]) == set()


def test_other_pods_are_left_alone() -> None:
    everything = {HTTP, GRPC, METRICS, HTTPS, GRPCS, OTHER}
    for target in (BROTHER, Place("ml", labels.for_revision("other", "a"), {NAMESPACE: "ml"}), SPY):
        assert reach(place("anywhere"), target=target) == everything
    assert reach(SPY, {"networkPolicy": "None"}) == everything


@pytest.mark.parametrize(
    ("exposure", "settings", "says"),
    [
        ({}, {}, None),
        ({"allowFrom": ["a"]}, TOLD, None),
        ({"allowFrom": ["a"]}, {}, "set proxyNamespaces"),
        ({"allowFrom": ["a"], "networkPolicy": "None"}, TOLD, "exposure.networkPolicy is None"),
    ],
)
def test_a_list_that_keeps_nobody_out_is_told(exposure: Any, settings: Any, says: str) -> None:
    owner = Observed(model_deployment(exposure=exposure))
    gaps = desired_state(owner, operator_settings(**settings), NOW).gaps
    assert [says in gap for gap in gaps if "allowFrom" in gap] == ([True] if says else [])


async def test_it_is_there_before_the_pods_and_goes_when_it_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(raw_model_deployment(), monkeypatch)
    await bench.rest()
    applied = [kind for verb, kind, _ in bench.cluster.writes if verb == "apply"]
    assert applied[0] == "NetworkPolicy"
    revision = bench.status["stable"]["revision"]
    bench.edit(exposure={"networkPolicy": "None"})
    await bench.rest()
    assert ("NetworkPolicy", "fraud") not in bench.cluster.objects
    bench.edit(exposure={"allowFrom": ["friends"]})
    await bench.rest()
    assert ("NetworkPolicy", "fraud") in bench.cluster.objects
    assert bench.status["stable"]["revision"] == revision


def policy(*rules: Any, selector: Any = None, namespace: str = "ml") -> dict[str, Any]:
    spec = {"podSelector": selector or {}, "policyTypes": ["Ingress"], "ingress": list(rules)}
    return {"metadata": {"namespace": namespace}, "spec": spec}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    found = {"key": key, "operator": operator} | ({"values": list(values)} if values else {})
    return {"from": [{"podSelector": {"matchExpressions": [found]}}]}


@pytest.mark.parametrize(
    ("rule", "reached"),
    [
        ({}, True),
        ({"ports": [{"port": 8080}]}, True),
        ({"ports": [{"port": "http"}]}, True),
        ({"ports": [{"port": "nowhere"}]}, False),
        ({"ports": [{"port": 8000, "endPort": 8090}]}, True),
        ({"ports": [{"port": 8080, "protocol": "UDP"}]}, False),
        ({"ports": [{"port": 9090}], "from": [{"podSelector": {}}]}, False),
        ({"from": [{"podSelector": {}}]}, True),
        ({"from": [{"namespaceSelector": {}}]}, True),
        (
            {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "x"}}}]},
            False,
        ),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}, True),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}, False),
        (expression("app", "In", "client"), True),
        (expression("app", "In", "x"), False),
        (expression("app", "NotIn", "x"), True),
        (expression("app", "NotIn", "client"), False),
        (expression("app", "Exists"), True),
        (expression("app", "DoesNotExist"), False),
    ],
)
def test_the_evaluator_reads_rules_as_kubernetes_does(rule: Any, reached: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    target = Place("ml", {}, {NAMESPACE: "ml"}, "10.2.0.1", {"http": HTTP})
    source = Place("ml", {"app": "client"}, {NAMESPACE: "ml"}, "10.1.0.7")
    assert may_reach([policy(rule)], source, target, HTTP) is reached


def test_policies_add_up_and_one_without_rules_closes() -> None:
    assert may_reach([], SPY, MODEL, HTTP)
    assert may_reach([policy(namespace="spies")], SPY, MODEL, HTTP)
    assert not may_reach([policy()], BROTHER, MODEL, HTTP)
    assert may_reach([policy(), policy({})], SPY, MODEL, HTTP)
    assert may_reach([policy(selector={"matchLabels": {"a": "b"}})], SPY, MODEL, HTTP)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("policyTypes", {"policyTypes": ["Ingress", "Egress"]}),
        ("egress", {"egress": []}),
        ("novel", {"ingress": [{"novel": 1}]}),
        ("operator", {"ingress": [expression("a", "Gt", "1")]}),
    ],
)
def test_the_evaluator_refuses_what_it_does_not_know(part: str, change: Any) -> None:
    odd = policy()
    odd["spec"] |= change
    with pytest.raises(ValueError, match=part):
        may_reach([odd], BROTHER, MODEL, HTTP)
