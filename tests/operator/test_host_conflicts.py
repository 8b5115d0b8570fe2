"""Two ModelDeployments and one host, from the first pass to the last."""

import copy
from typing import Any

import pytest

from testkit.operator_cluster import Bench
from testkit.operator_objects import EXPOSED, accepted, raw_model_deployment

HOST = "fraud.example.com"
OWN = "own.example.com"
LATER = "2026-01-01T11:30:00Z"
BEHIND = {"hosts": [HOST], "dialect": "Gateway", "gatewayRef": {"name": "public"}}
OTHER = {"uri": "s3://models/fraud/9"}


def older(**exposure: Any) -> dict[str, Any]:
    return raw_model_deployment("older", exposure=EXPOSED | exposure)


def bench_of(monkeypatch: pytest.MonkeyPatch, **exposure: Any) -> Bench:
    """A model that was made later than all others."""
    raw = raw_model_deployment(exposure=EXPOSED | exposure)
    raw["metadata"]["creationTimestamp"] = LATER
    return Bench(raw, monkeypatch)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return bench_of(monkeypatch)


def routes_ready(bench: Bench) -> dict[str, Any]:
    (found,) = [one for one in bench.status["conditions"] if one["type"] == "RoutesReady"]
    return dict(found)


def hosts(bench: Bench, name: str = "fraud") -> list[str]:
    rules = bench.cluster.objects["Ingress", name]["spec"]["rules"]
    return [rule["host"] for rule in rules]


def leave(bench: Bench, name: str) -> None:
    bench.store.note(bench.cluster.objects.pop(("ModelDeployment", name)), deleted=True)


async def test_the_newer_has_no_route_and_says_whose_the_host_is(bench: Bench) -> None:
    bench.put(older())
    await bench.rest()
    assert not [name for kind, name in bench.cluster.objects if kind == "Ingress"]
    said = routes_ready(bench)
    assert (said["status"], said["reason"]) == ("False", "HostConflict")
    assert f"host {HOST} with path / belongs to ml/older, which is older" in said["message"]
    assert bench.status["url"] == "http://fraud.ml.svc/"
    assert bench.status["traffic"]["dialect"] == "Ingress"
    assert bench.state == "Idle"
    bench.cluster.writes.clear()
    bench.restart()
    assert await bench.once() is None
    assert bench.cluster.writes == []


async def test_it_says_so_before_it_has_a_revision(bench: Bench) -> None:
    bench.put(older())
    await bench.once()
    assert routes_ready(bench)["reason"] == "HostConflict"


async def test_it_is_routed_when_the_older_is_gone(bench: Bench) -> None:
    bench.put(older())
    await bench.rest()
    leave(bench, "older")
    await bench.rest()
    assert hosts(bench) == [HOST]
    assert routes_ready(bench)["reason"] == "Confirmed"


async def test_routes_that_serve_go_when_an_older_one_asks_for_the_host(bench: Bench) -> None:
    """Even in the middle of a rollout: neither of the pair goes on competing."""
    await bench.rest()
    bench.edit(model=OTHER, rollout={"steps": [{"weight": 50}, {"weight": 100}]})
    await bench.until("Analyzing", 50)
    assert {name for kind, name in bench.cluster.objects if kind == "Ingress"} == {
        *("fraud", "fraud-canary"),
        *("fraud.grpc", "fraud.grpc-canary"),
    }
    bench.put(older())
    await bench.rest()
    assert not [name for kind, name in bench.cluster.objects if kind == "Ingress"]
    assert routes_ready(bench)["reason"] == "HostConflict"
    assert bench.state == "Idle"


async def test_the_hosts_that_are_its_own_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(monkeypatch, hosts=[HOST, OWN], tls={"secretName": "cert"})
    await bench.rest()
    bench.put(older())
    await bench.rest()
    assert hosts(bench) == [OWN]
    assert bench.cluster.objects["Ingress", "fraud"]["spec"]["tls"][0]["hosts"] == [OWN]
    assert bench.status["url"] == f"https://{OWN}/"
    assert routes_ready(bench)["reason"] == "HostConflict"


async def test_another_path_or_class_is_no_conflict(bench: Bench) -> None:
    bench.put(older(path="/models/fraud"))
    bench.put(raw_model_deployment("third", exposure=EXPOSED | {"ingressClassName": "internal"}))
    await bench.rest()
    assert hosts(bench) == [HOST]
    assert routes_ready(bench)["reason"] == "Confirmed"


async def test_auto_stays_what_it_was_while_the_routes_are_withheld(bench: Bench) -> None:
    await bench.rest()
    bench.put(older())
    await bench.rest()
    bench.edit(exposure=EXPOSED | {"gatewayRef": {"name": "public"}})
    await bench.rest()
    assert bench.status["traffic"]["dialect"] == "Ingress"


async def test_behind_a_gateway_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(monkeypatch, **BEHIND)
    spec = {"gatewayClassName": "any", "listeners": []}
    gateway = {"kind": "Gateway", "metadata": {"name": "public"}, "spec": spec}
    bench.cluster.objects["Gateway", "public"] = gateway
    await bench.rest()
    route = copy.deepcopy(bench.cluster.objects["HTTPRoute", "fraud"])
    bench.put(older(**BEHIND))
    await bench.rest()
    assert ("HTTPRoute", "fraud") not in bench.cluster.objects
    assert routes_ready(bench)["reason"] == "HostConflict"
    leave(bench, "older")
    await bench.rest()
    again = accepted(bench.cluster.objects["HTTPRoute", "fraud"])
    assert again["spec"] == route["spec"]
    assert routes_ready(bench)["reason"] == "Confirmed"


async def test_a_change_of_one_concerns_the_other_before_and_after(bench: Bench) -> None:
    store, mine, theirs = bench.store, bench.key, bench.key._replace(name="older")
    store.claims.stirred()
    assert store.note(older_at(100), deleted=False) == {mine, theirs}
    assert store.note(older_at(100), deleted=False) == set()
    assert store.note(older_at(101, replicas=2), deleted=False) == {theirs}
    assert store.note(older_at(102, hosts=[OWN]), deleted=False) == {mine, theirs}
    assert store.note(older_at(103), deleted=False) == {mine, theirs}
    assert store.note(older_at(104), deleted=True) == {mine, theirs}
    again = older_at(105)
    assert store.replace("ModelDeployment", [again], frozenset()) == {mine, theirs}
    assert store.replace("ModelDeployment", [], frozenset({"uid-older"})) == {mine, theirs}


async def test_a_claim_that_an_own_write_gives_up_is_told_with_its_echo(bench: Bench) -> None:
    """What routes were written for counts until status says otherwise."""
    store, mine = bench.store, bench.key
    leaving = older_at(100, hosts=[OWN])
    leaving["status"] = {"traffic": {"dialect": "Ingress", "exposure": EXPOSED}}
    store.note(leaving, deleted=False)
    await bench.rest()
    assert routes_ready(bench)["reason"] == "HostConflict"
    store.claims.stirred()
    left = older_at(1000, hosts=[OWN])
    store.put(left)
    assert store.note(left, deleted=False) == {mine}
    await bench.rest()
    assert hosts(bench) == [HOST]


def older_at(version: int, replicas: int = 1, **exposure: Any) -> dict[str, Any]:
    raw = older(**exposure)
    raw["metadata"]["resourceVersion"] = str(version)
    raw["spec"]["replicas"] = replicas
    return raw
