"""Two models on one host, each below a path of its own: neither sees the other's requests."""

from dataclasses import replace
from typing import Any, Final

import pytest

from testkit.cluster_api import revision_of
from testkit.cluster_lab import Bench, Lab, Served
from testkit.cluster_models import version
from testkit.cluster_proxies import PROFILES, Profile, ask_many
from testkit.cluster_traffic import OK

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

REQUESTS: Final = 100
HEADER: Final = {"X-Canary": "always"}
ROLLOUT: Final[Any] = {
    "steps": [{"weight": 50, "pause": "Manual"}, {"weight": 100}],
    "match": [{"header": {"name": "X-Canary", "value": "always"}}],
}


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_models_below_one_host_keep_to_their_paths(lab: Lab, profile: Profile) -> None:
    with profile.bench(lab, "paths") as bench:
        first, second = _serve(profile, bench, "a", 1), _serve(profile, bench, "b", 3)
        for one in (first, second):
            one.until_answered()
            assert one.route.ask(path=f"{one.route.path}/v2/health/ready").status == OK
        assert (first.route.version(), second.route.version()) == (1, 3)
        assert replace(first.route, path="/models/ab").ask().status != OK
        assert replace(first.route, path="").ask().status != OK

        stable = revision_of(first.edit_to(2), "stable")
        held = first.until(lambda seen: seen["status"]["rollout"].get("pausedReason") == "Step")
        candidate = revision_of(held, "candidate")
        assert ask_many(first.route, REQUESTS).keys() == {stable, candidate}
        alone = {revision_of(second.get(), "stable")}
        assert ask_many(second.route, REQUESTS).keys() == alone
        assert ask_many(replace(second.route, headers=HEADER), REQUESTS).keys() == alone
        assert ask_many(replace(first.route, headers=HEADER), REQUESTS).keys() == {candidate}


def _serve(profile: Profile, bench: Bench, name: str, number: int) -> Served:
    path, host = f"/models/{name}", bench.host("models")
    exposure = {"hosts": [host], "path": path}
    model = version(bench.lab.prefix, number)
    served = profile.serve(bench, name, model=model, exposure=exposure, rollout=ROLLOUT)
    return replace(served, route=replace(served.route, host=host, path=path))
