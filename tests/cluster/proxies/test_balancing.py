"""Which pod is asked, where the proxy tells them apart: by what each has to do, and whether it is there."""

import time
from typing import Final

import pytest

from testkit.cluster_api import revision_of
from testkit.cluster_lab import Lab, Served
from testkit.cluster_proxies import PROFILES, Profile, Stream, likely
from testkit.cluster_traffic import OK, requests_counted
from testkit.proxy_logs import logged

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(1800)]

BALANCES: Final = [one for one in PROFILES if one.known_as == "envoy-gateway"]
REQUESTS: Final = 400
NOBODY_LISTENS: Final = 1
"""A port of a node."""
TRIED: Final = 0.2
"""Largest share of the requests that try it; half of them would."""
PAUSE_S: Final = 0.02
"""The log keeps ten megabytes."""
WATCHED_S: Final = 6.0
"""Less than the ten seconds that it is left out for."""


@pytest.mark.parametrize("profile", BALANCES, ids=str)
def test_a_pod_with_more_to_do_is_asked_less_often(lab: Lab, profile: Profile) -> None:
    """Of two pods taken at random the one with fewer requests is asked: a busy one a quarter of the time."""
    with profile.bench(lab, "balancing") as bench:
        served = profile.serve(bench, "fraud", replicas=2)
        served.until_answered()
        with Stream(served.route, parts=600, pause_s=0.5) as stream:
            before = _answered(served)
            for _ in range(REQUESTS):
                assert served.route.ask().status == OK
            counts = [after - old for after, old in zip(_answered(served), before, strict=True)]
            assert stream.flows, stream
        assert sum(counts) == REQUESTS
        assert min(counts) in likely(REQUESTS, 25), counts


@pytest.mark.parametrize("profile", BALANCES, ids=str)
def test_a_pod_that_nobody_can_connect_to_is_left_out(lab: Lab, profile: Profile) -> None:
    """Its requests go to another pod, and after a moment nobody tries it for a while."""
    with profile.bench(lab, "ejection") as bench:
        served = profile.serve(bench, "fraud")
        served.until_answered()
        _add_endpoint(served)
        answers = []
        deadline = time.monotonic() + WATCHED_S
        while time.monotonic() < deadline:
            answers.append(served.route.ask())
            time.sleep(PAUSE_S)
        good = [answer for answer in answers if answer.status == OK]
        lines = logged(lab, profile, {answer.headers["X-Request-Id"] for answer in good})
        repeated = sum(line["attempts"] > 1 for line in lines)
        tried = repeated + 2 * (len(answers) - len(good))
        assert 0 < tried < TRIED * len(answers)


def _answered(served: Served) -> list[int]:
    """Requests that each pod has counted."""
    pods = sorted(served.pods(), key=lambda pod: pod["metadata"]["name"])
    return [int(requests_counted(pod["status"]["podIP"])) for pod in pods]


def _add_endpoint(served: Served) -> None:
    """Add one to the revision's Service that refuses connections."""
    (node, *_) = served.api.all("Node", "")
    addresses = {one["type"]: one["address"] for one in node["status"]["addresses"]}
    service = revision_of(served.get(), "stable")
    port = {"name": "http", "port": NOBODY_LISTENS, "protocol": "TCP"}
    slice_ = {
        "metadata": {"name": f"{service}-x", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [port],
        "endpoints": [{"addresses": [addresses["InternalIP"]], "conditions": {"ready": True}}],
    }
    served.api.create("EndpointSlice", served.namespace, slice_)
