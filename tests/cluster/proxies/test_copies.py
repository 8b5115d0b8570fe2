"""Copies of live requests: whoever routes them, it is the pods that send and compare them."""

from typing import Final

import pytest

from testkit.cluster_api import revision_of, state_of
from testkit.cluster_lab import Lab
from testkit.cluster_proxies import PROFILES, Profile
from testkit.cluster_traffic import Load
from testkit.proofs import proves

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

SAMPLES: Final = 50
SHADOW: Final = {"percent": 100, "minSamples": SAMPLES, "minAgreement": "0.9"}


@proves("rollout.shadow")
@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_a_candidate_is_judged_by_copies_before_it_answers(lab: Lab, profile: Profile) -> None:
    """Each version answers otherwise, so that the copies alone must turn the second away."""
    with profile.bench(lab, "copies") as bench:
        served = profile.serve(bench, "fraud", rollout={"shadow": SHADOW})
        served.until_answered()
        stable = revision_of(served.get(), "stable")
        with Load(served.route) as load:
            served.edit_to(2)
            seen = served.until(lambda one: state_of(one) == "RolledBack")
        assert seen["status"]["rollout"]["lastRollback"]["reason"] == "ShadowDisagrees"
        assert load.failed == []
        assert {sample.revision for sample in load.samples} == {stable}
