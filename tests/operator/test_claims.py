"""Who has a host and a path that several ModelDeployments claim."""

from typing import Any

import pytest

from modelyard_operator.claims import Claim, Claims
from modelyard_operator.store import Key
from modelyard_operator.traffic.conflicts import Conflict
from testkit.operator_objects import operator_settings, raw_model_deployment

FIRST, SECOND, THIRD = "2026-01-01T11:00:00Z", "2026-01-01T11:00:01Z", "2026-01-01T11:00:02Z"
OLDER, NEWER, NEWEST = Key("ml", "older"), Key("web", "newer"), Key("ml", "newest")
HOST = "fraud.example.com"
INGRESS: dict[str, Any] = {"hosts": [HOST], "ingressClassName": "nginx"}
PUBLIC = {"name": "public", "namespace": "infra"}
GATEWAY: dict[str, Any] = {"hosts": [HOST], "gatewayRef": PUBLIC}


def put(claims: Claims, key: Key, created: str, exposure: Any, dialect: str = "") -> None:
    raw = raw_model_deployment(key.name, exposure=exposure)
    raw["metadata"] |= {"namespace": key.namespace, "creationTimestamp": created}
    raw["status"] = {"traffic": {"dialect": dialect}} if dialect else {}
    claims.put(key, raw)


def lost(claims: Claims, key: Key, **settings: Any) -> list[tuple[str, str, Key]]:
    found = claims.lost(key, operator_settings(**settings))
    return [(one.host, one.path or "/", Key(one.namespace, one.name)) for one in found]


def pair(one: dict[str, Any], other: dict[str, Any]) -> Claims:
    claims = Claims()
    put(claims, NEWER, SECOND, other)
    put(claims, OLDER, FIRST, one)
    return claims


def test_the_older_keeps_what_both_claim() -> None:
    claims = pair(INGRESS, INGRESS)
    assert claims.lost(NEWER, operator_settings()) == (Conflict(HOST, "", *OLDER),)
    assert lost(claims, OLDER) == []


def test_of_one_second_the_first_by_namespace_and_name_keeps_it() -> None:
    claims = Claims()
    for key in (NEWER, NEWEST, OLDER):
        put(claims, key, FIRST, INGRESS)
    assert lost(claims, NEWEST) == []
    assert lost(claims, OLDER) == lost(claims, NEWER) == [(HOST, "/", NEWEST)]


@pytest.mark.parametrize(
    ("path", "other", "meet"),
    [
        ("/", "/", True),
        ("/a", "/a/", True),
        ("/a/b/", "/a/b", True),
        ("/a", "/A", False),
        ("/", "/a", False),
        ("/a", "/a/b", False),
        ("/a", "/ab", False),
    ],
)
def test_paths_are_the_same_but_for_a_slash_at_the_end(path: str, other: str, meet: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    claims = pair(INGRESS | {"path": path}, INGRESS | {"path": other})
    assert lost(claims, NEWER) == ([(HOST, path.rstrip("/") or "/", OLDER)] if meet else [])


@pytest.mark.parametrize(
    ("hosts", "others", "contested"),
    [
        (["a.x"], ["b.x"], []),
        (["a.x", "b.x"], ["c.x", "b.x"], ["b.x"]),
        (["*.x"], ["*.x"], ["*.x"]),
        (["*.x"], ["a.x"], []),
        (["a.x"], ["*.x"], []),
        ([], [], []),
    ],
)
def test_hosts_are_compared_to_the_letter(
    hosts: list[str], others: list[str], contested: list[str]
) -> None:
    claims = pair(INGRESS | {"hosts": hosts}, INGRESS | {"hosts": others})
    assert [host for host, _, _ in lost(claims, NEWER)] == contested


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (INGRESS, {**INGRESS, "ingressClassName": "internal"}, False),
        (INGRESS, {"hosts": [HOST]}, True),  # the cluster's default may be that class
        (INGRESS, GATEWAY, False),
        (INGRESS, {**INGRESS, "dialect": "None"}, False),
        (GATEWAY, GATEWAY, True),
        (GATEWAY, {**GATEWAY, "gatewayRef": {**PUBLIC, "sectionName": "https"}}, True),
        (GATEWAY, {**GATEWAY, "gatewayRef": {**PUBLIC, "name": "internal"}}, False),
        (GATEWAY, {**GATEWAY, "gatewayRef": {"name": "public"}}, False),
    ],
)
def test_only_those_meet_that_one_proxy_may_see(one: Any, other: Any, meet: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    for pairing in (pair(one, other), pair(other, one)):
        assert bool(lost(pairing, NEWER)) is meet


def test_what_nobody_names_is_what_the_settings_say() -> None:
    unnamed = {"hosts": [HOST]}
    assert lost(pair({**INGRESS, "ingressClassName": "b"}, unnamed), NEWER)
    assert not lost(pair(INGRESS, unnamed), NEWER, default_ingress_class="other")
    assert lost(pair(INGRESS, unnamed), NEWER, default_ingress_class="nginx")
    shared: Any = {"default_gateway": PUBLIC}
    assert lost(pair(GATEWAY, unnamed), NEWER, **shared)
    assert not lost(pair(INGRESS, unnamed), NEWER, **shared)
    assert not lost(pair(GATEWAY, {**unnamed, "dialect": "Gateway"}), NEWER)  # there is no Gateway


def test_auto_is_what_it_was_resolved_to() -> None:
    claims = pair(INGRESS, {})
    put(claims, NEWER, SECOND, INGRESS | GATEWAY, "Ingress")
    assert lost(claims, NEWER)
    put(claims, NEWER, SECOND, INGRESS | GATEWAY, "Gateway")
    assert not lost(claims, NEWER)


def test_a_change_of_dialect_gives_nothing_up_before_it_is_through() -> None:
    claims = pair({}, INGRESS)
    put(claims, OLDER, FIRST, GATEWAY | {"dialect": "Gateway"}, "Ingress")
    assert lost(claims, NEWER)
    put(claims, OLDER, FIRST, GATEWAY | {"dialect": "Gateway"}, "Gateway")
    assert not lost(claims, NEWER)


def test_who_has_lost_keeps_nobody_else_away() -> None:
    """The one in between may be of any class, and has lost to another class than the newest's."""
    claims = pair(INGRESS, {"hosts": [HOST]})
    put(claims, NEWEST, THIRD, {**INGRESS, "ingressClassName": "internal"})
    assert lost(claims, NEWER) == [(HOST, "/", OLDER)]
    assert lost(claims, NEWEST) == []
    claims.remove(OLDER)
    assert lost(claims, NEWER) == []
    assert lost(claims, NEWEST) == [(HOST, "/", NEWER)]


def test_an_object_of_another_schema_claims_nothing() -> None:
    claims = pair({"hosts": 7}, INGRESS)
    assert lost(claims, NEWER) == []
    assert claims.rivals(OLDER) == set()


def test_rivals_are_those_of_the_same_host_and_path_alone() -> None:
    claims = pair(INGRESS | {"hosts": ["a.x", HOST]}, INGRESS)
    put(claims, NEWEST, THIRD, INGRESS | {"hosts": ["a.x"]})
    assert claims.rivals(OLDER) == {NEWER, NEWEST}
    assert claims.rivals(NEWER) == {OLDER}
    put(claims, OLDER, FIRST, INGRESS | {"hosts": ["a.x"]})
    assert claims.rivals(NEWER) == claims.rivals(Key("ml", "stranger")) == set()


def test_nothing_is_left_of_those_that_are_gone() -> None:
    claims = pair(INGRESS, INGRESS)
    for key in (OLDER, NEWER, NEWER):
        claims.remove(key)
    assert not claims._claims
    assert not claims._claimants


def test_without_a_rival_nobody_else_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = Claims()
    keys = [Key("ml", f"model-{number}") for number in range(1000)]
    for key in keys:
        put(claims, key, FIRST, INGRESS | {"path": f"/{key.name}"})
    monkeypatch.delattr(Claim, "entries")
    assert [lost(claims, key) for key in keys] == [[]] * 1000
