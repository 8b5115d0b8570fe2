"""gRPC and HTTP of one model on one host: both are divided, pinned and brought home together."""

from dataclasses import replace
from typing import Any, Final

import pytest

from testkit.cluster_api import revision_of, state_of
from testkit.cluster_grpc import GrpcRoute
from testkit.cluster_lab import Lab
from testkit.cluster_proxies import PROFILES, Profile, ask_many, likely
from testkit.cluster_traffic import ROW

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

WEIGHT: Final = 30
REQUESTS: Final = 300
PINNED: Final = 30
HEADER: Final = {"X-Canary": "always"}
ROLLOUT: Final[Any] = {
    "steps": [{"weight": WEIGHT, "pause": "Manual"}, {"weight": 100}],
    "match": [{"header": {"name": "X-Canary", "value": "always"}}],
}


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_both_protocols_share_a_host_and_a_rollout(lab: Lab, profile: Profile) -> None:
    with profile.bench(lab, "grpc") as bench:
        served = profile.serve(bench, "fraud", rollout=ROLLOUT)
        served.until_answered()
        with GrpcRoute.of(served.route) as client:
            client.until_answered()
            assert client.ask() == (sum(ROW), revision_of(served.get(), "stable"))
            moments = client.stream(parts=4, pause_s=0.5)
            assert len(moments) == 4
            assert moments[-1] > 1, "the parts came at once, and not one by one"

            stable = revision_of(served.edit_to(2), "stable")
            held = served.until(
                lambda seen: seen["status"]["rollout"].get("pausedReason") == "Step"
            )
            candidate = revision_of(held, "candidate")
            counts = client.ask_many(REQUESTS)
            assert counts.keys() == {stable, candidate}
            assert counts[candidate] in likely(REQUESTS, WEIGHT), counts
            assert client.with_metadata(x_canary="always").ask_many(PINNED) == {candidate: PINNED}
            assert client.with_metadata(x_canary="always").ask().value == sum(ROW) * 2
            pinned = replace(served.route, headers=HEADER)
            assert ask_many(pinned, PINNED) == {candidate: PINNED}

            served.command(f"abort@{candidate}#1")
            served.until(lambda seen: state_of(seen) == "RolledBack")
            assert client.ask_many(PINNED) == {stable: PINNED}
            assert client.with_metadata(x_canary="always").ask_many(PINNED) == {stable: PINNED}
