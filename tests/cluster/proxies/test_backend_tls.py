"""From the proxy to the pods in TLS: begun and ended under load, and with a certificate that is looked at."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from testkit.cluster_api import Manifest, condition, revision_of
from testkit.cluster_grpc import GrpcRoute
from testkit.cluster_lab import Bench, Lab, Served
from testkit.cluster_proxies import BACKEND_TLS, PROFILES, Profile
from testkit.cluster_traffic import OK, ROW, Load
from testkit.proofs import proves
from testkit.runtime_certificates import write_certificate

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

SECRET: Final = "fraud-pods"  # noqa: S105 -- a name
AUTHORITY: Final = "fraud-authority"
ASKED: Final[Any] = {"backendTLS": {"secretName": SECRET, "caConfigMapName": AUTHORITY}}
ROLLOUT: Final[Any] = {
    "steps": [{"weight": 50, "pause": "Manual"}, {"weight": 100}],
    "probationSeconds": 0,
}
KNOWN_S: Final = 5.0


@proves(BACKEND_TLS)
@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_requests_go_to_the_pods_in_tls(lab: Lab, profile: Profile) -> None:
    with profile.bench(lab, "backend-tls") as bench:
        served = profile.serve(bench, "fraud", rollout=ROLLOUT)
        served.until_answered()
        good, other = (_authority(bench) for _ in range(2))
        good.certify(bench)
        other.trust(bench)
        with Load(served.route) as load, GrpcRoute.of(served.route) as client:
            plain = revision_of(served.get(), "stable")
            served.edit(exposure=ASKED)
            encrypted = _promote(served)
            assert encrypted != plain
            said = served.until(lambda one: _why(one) == "CertificateNotTrusted")
            assert "self-signed certificate" in condition(said, "RoutesReady")["message"]
            good.trust(bench)
            served.until(lambda one: _why(one) == "Confirmed")
            assert _ports(served) == {443, 8444}
            client.until_answered()

            served.edit_to(2)
            second = _promote(served, held=_ports)
            assert client.ask() == (sum(ROW) * 2, second)
            assert load.failed == []

        other.trust(bench)
        said = served.until(lambda one: _why(one) == "CertificateNotTrusted")
        assert condition(said, "RoutesReady")["message"].endswith("proxies refuse it too")
        _connect_anew(served, second)
        assert OK not in _answers(served)
        good.trust(bench)
        served.until_answered()
        with Load(served.route) as load:
            served.edit(exposure={"backendTLS": None})
            _promote(served)
            assert _ports(served) == {80, 8081}
            assert load.failed == []


@dataclass(frozen=True)
class _Authority:
    """A certificate that signs itself, and its key."""

    certificate: str
    key: str

    def certify(self, bench: Bench) -> None:
        """Create the Secret of the pods."""
        pair = {"tls.crt": self.certificate, "tls.key": self.key, "ca.crt": self.certificate}
        secret = {"metadata": {"name": SECRET}, "type": "kubernetes.io/tls", "stringData": pair}
        bench.lab.api.create("Secret", bench.namespace, secret)

    def trust(self, bench: Bench) -> None:
        """Have proxies trust it: Gateways read the ConfigMap, Ingresses the Secret."""
        api = bench.lab.api
        data = {"data": {"ca.crt": self.certificate}}
        if api.get("ConfigMap", bench.namespace, AUTHORITY) is None:
            api.create("ConfigMap", bench.namespace, {"metadata": {"name": AUTHORITY}, **data})
        else:
            api.patch("ConfigMap", bench.namespace, AUTHORITY, data)
            ca = {"stringData": {"ca.crt": self.certificate}}
            api.patch("Secret", bench.namespace, SECRET, ca)


def _authority(bench: Bench) -> _Authority:
    with TemporaryDirectory() as folder:
        host = f"fraud.{bench.namespace}.svc"
        certificate, key = write_certificate(Path(folder), "fraud", host)
        return _Authority(certificate.read_text(), key.read_text())


def _promote(served: Served, held: Any = None) -> str:
    """Wait for the step, look at what is held there, and go on to the end; return who is stable."""
    seen = served.until(lambda one: one["status"]["rollout"].get("pausedReason") == "Step")
    candidate = revision_of(seen, "candidate")
    if held:
        assert held(served) == {443, 8444}
    served.command(f"resume@{candidate}#{candidate}")
    served.until(lambda one: one["status"].get("stable", {}).get("revision") == candidate)
    return revision_of(served.until_ready(), "stable")


def _why(seen: Manifest) -> str:
    return str(condition(seen, "RoutesReady")["reason"])


def _ports(served: Served) -> set[int]:
    """Ports of the revisions' Services that the routes name."""
    routes = served.all("HTTPRoute")
    refs = [ref for one in routes for rule in one["spec"]["rules"] for ref in rule["backendRefs"]]
    paths = [
        path
        for one in served.all("Ingress")
        for rule in one["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    named = {ref["port"] for ref in refs}
    return named | {path["backend"]["service"]["port"]["number"] for path in paths}


def _connect_anew(served: Served, revision: str) -> None:
    """Replace the pod, since a proxy may keep connections that it has trusted."""
    (pod,) = served.pods(revision)
    name = pod["metadata"]["name"]
    served.api.delete("Pod", served.namespace, name)
    served.api.until_gone("Pod", served.namespace, name)
    served.until(lambda one: one["status"]["stable"]["readyReplicas"] == 1)


def _answers(served: Served) -> set[int]:
    """Ask for longer than a proxy needs to know a new pod."""
    deadline = time.monotonic() + KNOWN_S
    found = set()
    while time.monotonic() < deadline:
        found.add(served.route.ask().status)
        time.sleep(0.2)
    return found
