"""Two models of two namespaces that claim one host: the older has it, behind every proxy."""

from collections import Counter
from dataclasses import replace
from typing import Final

import pytest

from testkit.cluster_api import Manifest, condition, is_ready
from testkit.cluster_lab import Bench, Lab, Served
from testkit.cluster_proxies import PROFILES, Profile

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(1200)]

ASKED: Final = 40


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_the_older_has_the_host_until_it_lets_go(lab: Lab, profile: Profile) -> None:
    with profile.bench(lab, "owner") as home, profile.bench(lab, "intruder") as abroad:
        older = _serve(profile, home, "older", home.host("older"))
        older.until_ready()
        newer = _serve(profile, abroad, "newer", older.route.host, abroad.host("own"))
        shared = replace(newer, route=older.route)
        own = replace(newer, route=replace(newer.route, host=abroad.host("own")))

        said = condition(newer.until(_withheld), "RoutesReady")
        where = f"host {older.route.host} with path / belongs to {home.namespace}/older"
        assert where in said["message"]
        own.until_answered()
        older.until_answered()
        assert _answers(shared) == {"older": ASKED}

        older.edit(exposure={"path": "/elsewhere"})
        newer.until_ready()
        shared = replace(shared, route=newer.route)
        shared.until_answered()
        assert _answers(shared) == {"newer": ASKED}

        older.edit(exposure={"path": "/"})
        newer.until(_withheld)
        older.until(is_ready)
        older.until_answered()
        assert _answers(older) == {"older": ASKED}
        own.until_answered()

        lab.api.delete("ModelDeployment", home.namespace, "older")
        newer.until_ready()
        shared.until_answered()
        assert _answers(shared) == {"newer": ASKED}


def _serve(profile: Profile, bench: Bench, name: str, *hosts: str) -> Served:
    """Create a model of one name for all, so that one request fits each."""
    exposure = {**profile.exposure, "hosts": list(hosts)}
    served = bench.serve(name, model={"name": "fraud"}, exposure=exposure)
    return replace(served, route=replace(served.route, host=hosts[0], model="fraud"))


def _withheld(model_deployment: Manifest) -> bool:
    return condition(model_deployment, "RoutesReady").get("reason") == "HostConflict"


def _answers(served: Served) -> Counter[str]:
    """Count whose answers come to a route."""
    revisions = [served.route.ask().revision for _ in range(ASKED)]
    return Counter(revision.rpartition("-")[0] for revision in revisions)
