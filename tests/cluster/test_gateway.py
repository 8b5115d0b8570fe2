"""Models behind Gateways: what a Gateway has taken over, and a change of dialect under load."""

from dataclasses import replace
from typing import Any, Final

import pytest

from testkit.cluster_api import Manifest, condition, is_ready, revision_of, state_of
from testkit.cluster_lab import Bench, Lab, Served
from testkit.cluster_proxies import PROFILES
from testkit.cluster_traffic import Load

pytestmark = pytest.mark.cluster

GATEWAYS: Final = {one.name.rpartition("/")[2]: one for one in PROFILES if one.gateway}
"""Those of the proxies that are Gateways, by the operator's name for what is behind them."""
HEADER: Final = {"X-Canary": "always"}
ROLLOUT: Final = {
    "steps": [{"weight": 20, "pause": "Manual"}, {"weight": 100}],
    "match": [{"header": {"name": "X-Canary", "value": "always"}}],
}
ASKED: Final = 200


@pytest.fixture(scope="module", params=GATEWAYS)
def behind(request: pytest.FixtureRequest, lab: Lab, bench: Bench) -> tuple[str, Bench]:
    """A namespace whose clients ask a Gateway."""
    return request.param, replace(bench, proxy=GATEWAYS[request.param].address(lab))


def exposure(profile: str, **changes: Any) -> dict[str, Any]:
    return {**GATEWAYS[profile].exposure, **changes}


def held(model_deployment: Manifest) -> bool:
    return bool(model_deployment["status"]["rollout"].get("pausedReason") == "Step")


def reason(model_deployment: Manifest) -> str | None:
    return condition(model_deployment, "RoutesReady").get("reason")


def weights(served: Served) -> dict[str, float]:
    """Read the percentages of the live route's last rule, the one without a header."""
    route = served.api.need("HTTPRoute", served.namespace, served.name)
    return {ref["name"]: ref["weight"] / 10 for ref in route["spec"]["rules"][0]["backendRefs"]}


def test_a_rollout_and_a_rollback_lose_no_request(behind: tuple[str, Bench]) -> None:
    profile, bench = behind
    name = f"fraud-{profile}"
    served = bench.serve(name, replicas=2, rollout=ROLLOUT, exposure=exposure(profile))
    served.until_ready()
    served.until_answered()
    traffic = served.get()["status"]["traffic"]
    assert (traffic["dialect"], traffic["profile"]) == ("Gateway", profile)
    with Load(served.route) as load:
        stable = revision_of(served.edit_to(2), "stable")
        candidate = revision_of(served.until(held), "candidate")
        assert weights(served) == {stable: 80, candidate: 20}
        load.until_answered_by(candidate)
        pinned = replace(served.route, headers=HEADER)
        assert {pinned.ask().revision for _ in range(20)} == {candidate}
        answers = [served.route.ask().revision for _ in range(ASKED)]
        assert 10 < answers.count(candidate) < 75, answers.count(candidate)

        served.command(f"abort@{candidate}#1")
        served.until(lambda seen: state_of(seen) == "RolledBack")
        assert weights(served) == {stable: 100}
        assert {served.route.ask().revision for _ in range(20)} == {stable}

        served.edit_to(3)
        third = revision_of(served.until(held), "candidate")
        served.command(f"promote-full@{third}#2")
        assert revision_of(served.until_ready(), "stable") == third
        assert weights(served) == {third: 100}
        load.until_answered_by(third)
    assert load.failed == []
    assert len(load.samples) > ASKED


def test_a_change_of_dialect_loses_no_request_on_either_side(behind: tuple[str, Bench]) -> None:
    """Clients of the old proxy are served until those of the new one are."""
    profile, bench = behind
    plain = replace(bench, proxy=bench.lab.address("traefik", "traefik", 80))
    served = plain.serve(f"moving-{profile}", rollout=ROLLOUT)
    served.until_ready()
    served.until_answered()
    with Load(served.route) as load:
        served.edit(exposure=exposure(profile))
        served.until(lambda seen: reason(seen) == "DialectChanging")
        assert len(served.all("Ingress")) == 2, "one for HTTP, one for gRPC"
        there = replace(served, route=replace(served.route, proxy=bench.proxy))
        there.until_answered()
    with Load(there.route) as arrived:
        served.until(lambda seen: is_ready(seen) and not served.all("Ingress"))
        assert len(served.all("HTTPRoute")) == 1
    assert arrived.failed == []
    assert load.failed == []


def test_a_gateway_that_does_not_exist_is_named_in_status(behind: tuple[str, Bench]) -> None:
    profile, bench = behind
    lost = {"namespace": bench.namespace, "name": "nowhere"}
    asks = exposure(profile, gatewayRef=lost)
    served = bench.serve(f"lost-{profile}", exposure=asks)
    seen = served.until(lambda seen: reason(seen) == "GatewayNotFound")
    said = condition(seen, "RoutesReady")
    assert said["status"] == "False"
    assert f"there is no Gateway {bench.namespace}/nowhere" in said["message"]
    assert not is_ready(seen)
    served.edit(exposure=exposure(profile))
    served.until_ready()
    served.until_answered()
