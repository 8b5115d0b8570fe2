"""Access logs of the proxies, as JSON lines."""

import json
import time
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from testkit.cluster_lab import Lab
from testkit.cluster_proxies import Profile

WRITTEN_S: Final = 60.0
"""Envoy writes what it has gathered in ten seconds."""


class _Log(NamedTuple):
    """Where a proxy writes, and how it names what every proxy tells.

    Attributes:
        namespace: Of its pods.
        selector: Of its pods.
        container: That writes.
        request: Field of the request's id.
        revision: Field of the revision that has answered.
    """

    namespace: str
    selector: str
    container: str
    request: str
    revision: str


_TRAEFIK: Final = _Log(
    *("traefik", "app=traefik", "traefik"),
    *("downstream_X-Request-Id", "downstream_X-Modelyard-Revision"),
)
LOGS: Final = {
    "traefik-nginx": _TRAEFIK,
    "traefik": _TRAEFIK,
    "envoy-gateway": _Log(
        *("envoy-gateway-system", "gateway.envoyproxy.io/owning-gateway-name=public", "envoy"),
        *("request_id", "revision"),
    ),
}


def logged(lab: Lab, profile: Profile, requests: Collection[str]) -> list[dict[str, Any]]:
    """Wait for the lines of some requests, and return them.

    Args:
        lab: The cluster.
        profile: The proxy that has answered them.
        requests: Their ids.
    """
    log, wanted = LOGS[profile.known_as], frozenset(requests)
    deadline = time.monotonic() + WRITTEN_S
    while len(
        found := [line for line in _lines(lab, log) if line.get(log.request) in wanted]
    ) < len(wanted):
        assert time.monotonic() < deadline, f"{len(found)} of {len(wanted)} requests are in the log"
        time.sleep(1)
    return found


def _lines(lab: Lab, log: _Log) -> list[dict[str, Any]]:
    where = ("--namespace", log.namespace, "--selector", log.selector, "--container", log.container)
    said = lab.kubectl("logs", *where, "--since=5m", "--tail=-1").stdout
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]
