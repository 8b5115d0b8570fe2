"""What one model's owner asks of the proxy is no business of another model's callers."""

import time
from typing import Any, Final

import pytest

from testkit.cluster_lab import Lab
from testkit.cluster_proxies import PROFILES, Profile, Stream

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

EDITS: Final[tuple[dict[str, Any], ...]] = (
    {"auth": {"type": "APIKey"}},
    {"rateLimit": {"requestsPerSecond": 5}},
    {"maxBodyBytes": 4096},
    {"timeoutSeconds": 60, "strict": False},
    {"auth": {"type": "None"}, "rateLimit": None},
)
PAUSE_S: Final = 0.5
DRAINED: Final = 24
"""Events that come in twice the time that the tests' Envoy leaves to connections it gives up."""
PATIENCE_S: Final = 60.0


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_no_edit_ends_the_streams_of_another_model(lab: Lab, profile: Profile) -> None:
    with profile.bench(lab, "neighbours") as bench:
        secret = {"metadata": {"name": "other-auth"}, "stringData": {"alice": "a-key"}}
        lab.api.create("Secret", bench.namespace, secret)
        served = profile.serve(bench, "fraud")
        other = profile.serve(bench, "other")
        for one in (served, other):
            one.until_answered()
        with Stream(served.route, parts=10_000, pause_s=PAUSE_S) as stream:
            for exposure in EDITS:
                other.edit(exposure=exposure)
                other.until_ready()
                _flows_on(stream)


def _flows_on(stream: Stream) -> None:
    enough, deadline = len(stream.moments) + DRAINED, time.monotonic() + PATIENCE_S
    while len(stream.moments) < enough:
        assert not stream.error, stream
        assert time.monotonic() < deadline, stream
        time.sleep(PAUSE_S)
