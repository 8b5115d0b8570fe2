"""Encryption at the proxy: with the model's own certificate, or with that of the Gateway's listener."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from testkit.cluster_api import condition
from testkit.cluster_lab import Bench, Lab, Served
from testkit.cluster_proxies import PROFILES, TLS, Profile, ask_encrypted
from testkit.cluster_traffic import OK
from testkit.proofs import proves
from testkit.runtime_certificates import write_certificate

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

SECRET: Final = "fraud-tls"  # noqa: S105 -- a name
REACHES_S: Final = 60.0


@proves(TLS)
@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_a_certificate_is_used_or_said_not_to_be(lab: Lab, profile: Profile) -> None:
    with profile.bench(lab, "certificates") as bench:
        served = profile.serve(bench, "fraud")
        served.until_answered()
        authority = _certify(bench, served.route.host)
        served.edit(exposure={"tls": {"secretName": SECRET}})
        if TLS in profile.lacks:
            _stays_as_it_is(served)
            _has_that_of_the_listener(served, profile, authority)
            return
        served.until_ready()
        _until_encrypted(served, profile, authority)
        assert served.get()["status"]["url"] == f"https://{served.route.host}/"
        assert served.route.ask().status != OK, "it was answered without encryption"
        served.edit(exposure={"tls": None})
        served.until_ready()
        served.until_answered()


def _certify(bench: Bench, host: str) -> str:
    """Create the Secret, and return the certificate that clients are to trust."""
    with TemporaryDirectory() as folder:
        certificate, key = write_certificate(Path(folder), "fraud", host)
        pair = {"tls.crt": certificate.read_text(), "tls.key": key.read_text()}
    secret = {"metadata": {"name": SECRET}, "type": "kubernetes.io/tls", "stringData": pair}
    bench.lab.api.create("Secret", bench.namespace, secret)
    return pair["tls.crt"]


def _stays_as_it_is(served: Served) -> None:
    said = served.until(lambda one: TLS in condition(one, "FeaturesUnsupported")["message"])
    assert condition(said, "FeaturesUnsupported")["status"] == "True"
    assert said["status"]["url"] == f"http://{served.route.host}/"
    assert served.route.ask().status == OK


def _has_that_of_the_listener(served: Served, profile: Profile, authority: str) -> None:
    """A Gateway of the namespace whose listener holds the certificate."""
    assert profile.gateway is not None
    api, (namespace, name) = served.api, profile.gateway
    listener = {
        "name": "https",
        "protocol": "HTTPS",
        "port": 443,
        "tls": {"certificateRefs": [{"name": SECRET}]},
    }
    class_name = api.need("Gateway", namespace, name)["spec"]["gatewayClassName"]
    own = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "own"},
        "spec": {"gatewayClassName": class_name, "listeners": [listener]},
    }
    api.create("Gateway", served.namespace, own)
    # A merge would keep the namespace of the Gateway that it has been attached to.
    gateway = {"name": "own", "namespace": served.namespace}
    served.edit(exposure={"tls": None, "gatewayRef": gateway})
    _until_encrypted(served, profile, authority)
    served.until(lambda seen: seen["status"]["url"] == f"https://{served.route.host}/")


def _until_encrypted(served: Served, profile: Profile, authority: str) -> None:
    proxy = profile.address(served.bench.lab, 443)
    deadline = time.monotonic() + REACHES_S
    while (status := _try(served, proxy, authority)) != OK:
        assert time.monotonic() < deadline, status
        time.sleep(0.2)


def _try(served: Served, proxy: str, authority: str) -> object:
    """Ask over TLS; until the proxy has the certificate it shows another, or does not listen."""
    try:
        return ask_encrypted(served.route, proxy, authority)
    except OSError as error:  # ssl.SSLError is one
        return error
