"""One line of a proxy's access log tells which revision has answered which request."""

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from testkit.cluster_lab import Lab
from testkit.cluster_proxies import PROFILES, Profile

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

WRITTEN_S: Final = 60.0
"""Envoy writes what it has gathered in ten seconds."""
TRAEFIK: Final = ("traefik", "app=traefik", "traefik")
LOGS: Final = {
    "traefik-nginx": TRAEFIK,
    "traefik": TRAEFIK,
    "envoy-gateway": (
        *("envoy-gateway-system", "gateway.envoyproxy.io/owning-gateway-name=public", "envoy"),
    ),
}
"""Namespace, selector and container of what writes the log."""
FIELDS: Final = {
    "traefik-nginx": ("downstream_X-Request-Id", "downstream_X-Modelyard-Revision"),
    "traefik": ("downstream_X-Request-Id", "downstream_X-Modelyard-Revision"),
    "envoy-gateway": ("request_id", "revision"),
}


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_a_line_has_the_request_and_the_revision(lab: Lab, profile: Profile) -> None:
    with profile.bench(lab, "logs") as bench:
        served = profile.serve(bench, "fraud")
        served.until_answered()
        answer = served.route.ask()
        request, revision = FIELDS[profile.known_as]
        deadline = time.monotonic() + WRITTEN_S
        while not (
            lines := [
                line
                for line in _lines(lab, profile)
                if line.get(request) == answer.headers["X-Request-Id"]
            ]
        ):
            assert time.monotonic() < deadline, "the request is in no line"
            time.sleep(1)
        (line,) = lines
        assert line[revision] == answer.revision


def _lines(lab: Lab, profile: Profile) -> Iterator[dict[str, Any]]:
    namespace, selector, container = LOGS[profile.known_as]
    where = ("--namespace", namespace, "--selector", selector, "--container", container)
    said = lab.kubectl("logs", *where, "--since=5m", "--tail=-1").stdout
    for line in said.splitlines():
        if line.startswith("{"):
            yield json.loads(line)
