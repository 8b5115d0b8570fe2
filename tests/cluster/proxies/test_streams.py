"""Streams behind each proxy, of which many begin while the proxy is busy."""

from typing import Final

import pytest

from testkit.cluster_lab import Lab
from testkit.cluster_proxies import WITH_GENERIC, Profile, Stream
from testkit.cluster_traffic import Load

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(1800)]

STREAMS: Final = 300
PARTS: Final = 3
CUT: Final = 1
"""Traefik is given the time that it needs, but for when the kernel holds it up: of 300 it cut 13 without."""


@pytest.mark.parametrize("profile", WITH_GENERIC, ids=str)
def test_a_stream_that_begins_at_once_is_not_cut(lab: Lab, profile: Profile) -> None:
    """Traefik cuts off an answer that begins before it is done with sending the request."""
    with profile.bench(lab, "streams") as bench:
        served = profile.serve(bench, "fraud")
        served.until_answered()
        cut = []
        with Load(served.route, threads=3, pause_s=0.005) as load:
            for _ in range(STREAMS):
                with Stream(served.route, parts=PARTS, pause_s=0.01) as stream:
                    stream.until_ended()
                if len(stream.moments) != PARTS or stream.error:
                    cut.append(str(stream))
        assert len(cut) <= (CUT if profile.gateway and profile.gateway[0] == "traefik" else 0), cut
        assert load.failed == []
