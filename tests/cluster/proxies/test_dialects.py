"""A model that moves from an Ingress to a Gateway, and one whose Gateway does not exist."""

from dataclasses import replace
from typing import Final

import pytest

from testkit.cluster_api import Manifest, condition, is_ready
from testkit.cluster_lab import Lab
from testkit.cluster_proxies import PROFILES, Profile
from testkit.cluster_traffic import Load

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

INGRESS: Final = next(one for one in PROFILES if one.gateway is None)
GATEWAYS: Final = [one for one in PROFILES if one.gateway]
behind_gateways = pytest.mark.parametrize("profile", GATEWAYS, ids=str)


@behind_gateways
def test_a_change_of_dialect_loses_no_request_on_either_side(lab: Lab, profile: Profile) -> None:
    """Clients of the old proxy are served until those of the new one are."""
    with profile.bench(lab, "moving") as bench:
        served = INGRESS.serve(replace(bench, proxy=INGRESS.address(lab)), "fraud")
        served.until_answered()
        there = replace(served, route=replace(served.route, proxy=bench.proxy))
        with Load(served.route) as load:
            served.edit(exposure=dict(profile.exposure))
            served.until(lambda seen: _reason(seen) == "DialectChanging")
            assert len(served.all("Ingress")) == 2, "one for HTTP, one for gRPC"
            there.until_answered()
        with Load(there.route) as arrived:
            served.until(lambda seen: is_ready(seen) and not served.all("Ingress"))
            assert len(served.all("HTTPRoute")) == 1
        traffic = served.get()["status"]["traffic"]
        assert (traffic["dialect"], traffic["profile"]) == ("Gateway", profile.known_as)
        assert arrived.failed == []
        assert load.failed == []


@behind_gateways
def test_a_gateway_that_does_not_exist_is_named_in_status(lab: Lab, profile: Profile) -> None:
    with profile.bench(lab, "lost") as bench:
        lost = {"namespace": bench.namespace, "name": "nowhere"}
        served = bench.serve("fraud", exposure={**profile.exposure, "gatewayRef": lost})
        seen = served.until(lambda seen: _reason(seen) == "GatewayNotFound")
        said = condition(seen, "RoutesReady")
        assert said["status"] == "False"
        assert f"there is no Gateway {bench.namespace}/nowhere" in said["message"]
        assert not is_ready(seen)
        served.edit(exposure=dict(profile.exposure))
        served.until_ready()
        served.until_answered()


def _reason(model_deployment: Manifest) -> str | None:
    return condition(model_deployment, "RoutesReady").get("reason")
