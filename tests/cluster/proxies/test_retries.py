"""A request that has reached a pod runs once, whatever becomes of the pod."""

import json
from typing import Final

import pytest

from testkit.cluster_api import Manifest
from testkit.cluster_lab import Lab
from testkit.cluster_proxies import PROFILES, Profile
from testkit.cluster_traffic import OK, infer_body

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

REPLICAS: Final = 2
BACK_S: Final = 90.0
DEADLY: Final = json.dumps(json.loads(infer_body()) | {"parameters": {"exit": True}}).encode()
"""The process that runs it is gone before it answers, so that each run shows as a restart."""


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_an_inference_that_kills_its_pod_is_not_tried_on_the_next(
    lab: Lab, profile: Profile
) -> None:
    with profile.bench(lab, "retries") as bench:
        served = profile.serve(bench, "fraud", replicas=REPLICAS)
        served.until_answered()
        assert sum(map(_restarts, served.pods())) == 0
        assert served.route.ask(DEADLY).status >= 500
        served.until(lambda seen: seen["status"]["readyReplicas"] < REPLICAS, BACK_S)
        served.until(lambda seen: seen["status"]["readyReplicas"] == REPLICAS, BACK_S)
        assert sorted(map(_restarts, served.pods())) == [0, 1]
        assert served.route.ask().status == OK


def _restarts(pod: Manifest) -> int:
    return sum(int(one["restartCount"]) for one in pod["status"]["containerStatuses"])
