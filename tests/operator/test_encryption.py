"""Certificates of pods, which are looked at before requests go there in TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from modelyard_operator.conditions import Pass, build_conditions
from modelyard_operator.desired import desired_state
from modelyard_operator.encryption import Encryption, asks_for_certificates
from modelyard_operator.kinds import BACKEND_TLS_POLICY
from modelyard_operator.observed import Observed
from modelyard_operator.reconcile import orphans
from modelyard_operator.resources.workload import build_workload
from modelyard_operator.rollout.routing import Backends
from modelyard_operator.traffic.dialects import render_routes
from modelyard_operator.traffic.legs import Leg
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import GatewayView
from testkit.operator_objects import (
    EXPOSED,
    NOW,
    live,
    model_deployment,
    observe,
    operator_settings,
    pod,
    revision_of,
)
from testkit.runtime_certificates import write_certificate

HOST: Final = "fraud.ml.svc"
ASKED: Final = {"backendTLS": {"secretName": "pods", "caConfigMapName": "authority"}}
OWNER: Final = model_deployment(exposure=EXPOSED | ASKED)
REVISION: Final = revision_of(OWNER)
STABLE: Final = {"rollout": {"state": "Idle"}, "stable": {"revision": REVISION.name}}


@asynccontextmanager
async def encrypted_pod(certificate: Path, key: Path) -> AsyncIterator[int]:
    """Listen on loopback in TLS, and return the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


def observed(authority: str | None, *routes: Any, address: str = "127.0.0.1") -> Observed:
    held = {"authority": None if authority is None else {"ca.crt": authority}}
    workload = live(build_workload(OWNER, REVISION))
    ready = pod(REVISION.name, ready=True, podIP=address)
    return observe(OWNER, workload, ready, *routes, config_maps=held)


async def test_who_is_trusted_is_looked_at_once(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "fraud", HOST)
    authority = certificate.read_text()
    async with encrypted_pod(certificate, key) as port:
        encryption = Encryption(port)
        found = await encryption.complete(observed(authority))
    assert found.encrypted == {REVISION.name}
    assert found.untrusted is None
    assert asks_for_certificates(found, NOW) is None
    again = await encryption.complete(observed(authority))  # nobody listens any more
    assert again.encrypted == {REVISION.name}


@pytest.mark.parametrize(
    ("host", "says"),
    [
        (HOST, "self-signed certificate"),
        ("other.ml.svc", "Hostname mismatch"),
    ],
)
async def test_who_is_not_trusted_gets_no_requests_in_tls(
    tmp_path: Path, host: str, says: str
) -> None:
    certificate, key = write_certificate(tmp_path, "fraud", host)
    authority = certificate.read_text()
    if host == HOST:
        other = tmp_path / "other"
        other.mkdir()
        authority = write_certificate(other, "other", HOST)[0].read_text()
    async with encrypted_pod(certificate, key) as port:
        found = await Encryption(port).complete(observed(authority))
    assert found.encrypted == frozenset()
    assert found.untrusted is not None
    assert found.untrusted.reason == "CertificateNotTrusted"
    assert says in found.untrusted.message
    assert asks_for_certificates(found, NOW) is not None


async def test_an_authority_that_is_none_is_said() -> None:
    found = await Encryption(1).complete(observed("rubbish"))
    assert found.untrusted is not None
    assert "ca.crt is no certificate" in found.untrusted.message


@pytest.mark.parametrize("authority", [None, ""])
async def test_a_missing_authority_is_said(authority: str | None) -> None:
    missing = (await Encryption(1).complete(observed(authority))).untrusted
    assert missing is not None
    assert missing.reason == "ReferenceNotFound"
    assert "'authority' with the key 'ca.crt'" in missing.message


async def test_a_silent_pod_is_said(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path, "fraud", HOST)
    silent = (await Encryption(1).complete(observed(certificate.read_text()))).untrusted
    assert silent is not None
    assert "port 1: " in silent.message


async def test_what_the_routes_say_already_holds(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path, "fraud", HOST)
    routes = [live(route) for route in routes_to({REVISION.name})]
    found = await Encryption(1).complete(observed(certificate.read_text(), *routes))
    assert found.encrypted == {REVISION.name}


async def test_status_says_that_requests_go_in_plain_text() -> None:
    found = await Encryption(1).complete(observed(None))
    assert told(found) == (False, "ReferenceNotFound")
    without = observe(OWNER, live(build_workload(OWNER, REVISION)))
    assert told(without) == (False, "PodsInPlainText")


@pytest.mark.parametrize("leg", Leg)
def test_policies_stay_until_envoy_has_left_the_ports_that_they_are_about(leg: Leg) -> None:
    reference = {"namespace": "infra", "name": "public"}
    exposure = EXPOSED | {"dialect": "Gateway", "gatewayRef": reference}
    view = GatewayView(profile="envoy-gateway")
    asked = model_deployment(exposure=exposure | ASKED)
    proxy = observe(asked, gateway=view).proxy(operator_settings(), NOW)
    able = frozenset({REVISION.name})
    plan = TrafficPlan(
        asked.spec.exposure,
        proxy,
        Backends(REVISION.name),
        certified=able,
        encrypted=able if leg else frozenset(),
        legs={"Gateway": leg},
        settled=False,
    )
    routes = [live(route) for route in render_routes(asked, plan)]
    owner = model_deployment(exposure=exposure, status=STABLE)
    seen = observe(owner, live(build_workload(asked, REVISION)), *routes, gateway=view)
    plan_of_it = desired_state(seen, operator_settings(), NOW)
    kept = {BACKEND_TLS_POLICY.name} - {one["kind"] for one in orphans(seen, plan_of_it)}
    assert bool(kept) == (leg > Leg.PLAIN_ABOVE_TLS)


def routes_to(encrypted: set[str]) -> list[Any]:
    proxy = observe(OWNER).proxy(operator_settings(), NOW)
    plan = TrafficPlan(
        OWNER.spec.exposure, proxy, Backends(REVISION.name), encrypted=frozenset(encrypted)
    )
    return render_routes(OWNER, plan)


def told(found: Observed) -> tuple[bool | None, str]:
    routed = observe(
        found.model_deployment,
        *found.children.values(),
        *found.pods,
        *(live(route) for route in routes_to(set())),
        encrypted=found.encrypted,
        untrusted=found.untrusted,
    )
    plan = desired_state(routed, operator_settings(), NOW)
    seen = Pass.of(routed, plan, None, NOW)
    (condition,) = [one for one in build_conditions(seen) if one.type == "RoutesReady"]
    return condition.status, condition.reason
