import json
from typing import Any

import pytest

from modelyard_operator.rollout.routing import Backends
from modelyard_operator.traffic.dialects import render_routes
from modelyard_operator.traffic.ingress import backend_of, canary_weight_of
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import Proxy, resolve_proxy
from testkit.operator_objects import EXPOSED, model_deployment, operator_settings

PREFIX = "nginx.ingress.kubernetes.io/"
PAIR = Backends("fraud-a", "fraud-b", 25)


def render(backends: Backends, **exposure: Any) -> list[dict[str, Any]]:
    owner = model_deployment(exposure=EXPOSED | exposure)
    proxy = resolve_proxy(owner.spec.exposure, operator_settings())
    return render_routes(owner, TrafficPlan(owner.spec.exposure, proxy, backends))


def test_the_pair_has_the_same_rules_to_the_letter() -> None:
    hosts = ["a.x", "b.x"]
    primary, canary = render(PAIR, hosts=hosts, path="/m", tls={"secretName": "s"})
    assert (backend_of(primary), backend_of(canary)) == ("fraud-a", "fraud-b")
    text = json.dumps(canary["spec"]).replace('"fraud-b"', '"fraud-a"')
    assert json.dumps(primary["spec"]) == text
    assert [rule["host"] for rule in primary["spec"]["rules"]] == hosts
    assert primary["spec"]["tls"] == [{"hosts": hosts, "secretName": "s"}]
    assert primary["spec"]["ingressClassName"] == "nginx"


def test_the_canary_carries_the_weight_and_nothing_else() -> None:
    primary, canary = render(PAIR, annotations={"example.com/team": "risk"})
    assert canary["metadata"]["annotations"] == {
        f"{PREFIX}canary": "true",
        f"{PREFIX}canary-weight": "25",
    }
    assert canary_weight_of(canary) == 25
    assert canary_weight_of(primary) == 0
    assert primary["metadata"]["annotations"] == {
        "example.com/team": "risk",
        f"{PREFIX}proxy-read-timeout": "300",
        f"{PREFIX}proxy-send-timeout": "300",
        f"{PREFIX}proxy-body-size": "33554432",
        f"{PREFIX}proxy-request-buffering": "on",
        f"{PREFIX}proxy-buffering": "off",
    }


def test_testers_reach_the_canary_by_a_header() -> None:
    match = [{"header": {"name": "X-Canary", "value": "always"}}]
    owner = model_deployment(exposure=EXPOSED, rollout={"match": match})
    proxy = resolve_proxy(owner.spec.exposure, operator_settings())
    plan = TrafficPlan(owner.spec.exposure, proxy, PAIR, match=owner.spec.rollout.match)
    primary, canary = render_routes(owner, plan)
    annotations = canary["metadata"]["annotations"]
    assert annotations[f"{PREFIX}canary-by-header"] == "X-Canary"
    assert annotations[f"{PREFIX}canary-by-header-value"] == "always"
    assert annotations[f"{PREFIX}canary-weight"] == "25"
    assert not any("canary" in key for key in primary["metadata"]["annotations"])


def test_limits_reach_the_proxy() -> None:
    (primary,) = render(Backends("fraud-a"), timeoutSeconds=7, maxBodyBytes=9)
    annotations = primary["metadata"]["annotations"]
    assert annotations[f"{PREFIX}proxy-read-timeout"] == "7"
    assert annotations[f"{PREFIX}proxy-send-timeout"] == "7"
    assert annotations[f"{PREFIX}proxy-body-size"] == "9"


@pytest.mark.parametrize(
    ("backends", "exposure", "number"),
    [
        (Backends(), {}, 0),
        (Backends("fraud-a"), {}, 1),
        (PAIR, {}, 2),
        (PAIR, {"hosts": []}, 0),
        (PAIR, {"dialect": "None"}, 0),
        (PAIR, {"ingressClassName": "unmapped"}, 1),
        (PAIR, {"ingressClassName": None}, 1),
    ],
)
def test_how_many_there_are(backends: Backends, exposure: dict[str, Any], number: int) -> None:
    made = render(backends, **exposure)
    assert len(made) == number
    if exposure.get("ingressClassName", "x") is None:
        assert "ingressClassName" not in made[0]["spec"]


@pytest.mark.parametrize("spec", [{}, {"rules": []}, {"rules": [{"host": "a"}]}])
def test_a_route_of_another_shape_names_nobody(spec: dict[str, Any]) -> None:
    assert backend_of({"spec": spec}) is None


@pytest.mark.parametrize(
    ("annotations", "weight"),
    [
        (None, 0),
        ({f"{PREFIX}canary-weight": "5"}, 0),
        ({f"{PREFIX}canary": "false", f"{PREFIX}canary-weight": "5"}, 0),
        ({f"{PREFIX}canary": "true"}, 0),
        ({f"{PREFIX}canary": "true", f"{PREFIX}canary-weight": "many"}, 0),
        ({f"{PREFIX}canary": "true", f"{PREFIX}canary-weight": "5"}, 5),
    ],
)
def test_the_weight_is_what_the_proxy_would_read(annotations: Any, weight: int) -> None:
    assert canary_weight_of({"metadata": {"annotations": annotations}}) == weight


@pytest.mark.parametrize(
    ("backends", "weights"),
    [
        (Backends(), {}),
        (Backends("a"), {"a": 100}),
        (Backends("a", "b", 25), {"a": 75, "b": 25}),
        (Backends("a", "a", 100), {"a": 100}),
    ],
)
def test_weights_of_a_plan(backends: Backends, weights: dict[str, int]) -> None:
    exposure = model_deployment().spec.exposure
    assert TrafficPlan(exposure, Proxy(None, "none"), backends).weights == weights
