"""Copies of live requests: whoever routes them, it is the pods that send and compare them."""

from typing import Final

import pytest

from testkit.cluster_api import Manifest, revision_of, state_of
from testkit.cluster_canaries import Meter
from testkit.cluster_lab import Lab
from testkit.cluster_proxies import WITH_GENERIC, Profile
from testkit.cluster_traffic import Load
from testkit.proofs import proves

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

ENOUGH: Final = 40
NEVER: Final = 1_000_000
"""Copies that are not reached here: the candidate answers nothing else until it is told to go on."""
ROLLOUT: Final = {
    "shadow": {"percent": 100, "minSamples": NEVER, "minAgreement": "1"},
    "steps": [{"weight": 50, "pause": "Manual"}, {"weight": 100}],
}


@proves("rollout.shadow")
@pytest.mark.parametrize("profile", WITH_GENERIC, ids=str)
def test_a_shadowed_candidate_gets_copies_and_no_request(lab: Lab, profile: Profile) -> None:
    def compared(seen: Manifest) -> bool:
        report = seen["status"]["rollout"].get("shadow", {})
        return state_of(seen) == "Shadowing" and report.get("samples", 0) >= ENOUGH

    with profile.bench(lab, "shadowing") as bench:
        served = profile.serve(bench, "fraud", rollout=ROLLOUT)
        served.until_answered()
        with Load(served.route) as load:
            # The same file as another version: both must answer the same.
            stable = revision_of(served.edit(model={"version": "1-again"}), "stable")
            with Meter(served, stable) as meter:
                seen = served.until(compared)
                candidate = revision_of(seen, "candidate")
                assert float(seen["status"]["rollout"]["shadow"]["agreement"]) == 1
                assert {sample.revision for sample in load.samples} == {stable}
            assert meter.asked == {candidate: 0.0}

            served.edit(rollout={"shadow": {"minSamples": ENOUGH}})
            load.until_answered_by(candidate, timeout_s=60)
        assert load.failed == []
