"""Whether the pods' certificate holds: a pod is asked for it before any request is sent there in TLS.

A proxy that does not trust a pod answers every request with an error. So nothing is encrypted anew that
the operator, with the same authority and for the same name, would not trust itself; until then requests
go to the pods in plain text, and status says why.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from modelyard_operator.observed import Observed
from modelyard_operator.resources import names
from modelyard_operator.resources.pod_template import speaks_tls
from modelyard_operator.runtime_contract import CA_KEY, HTTPS_PORT
from modelyard_operator.spec import BackendTLSSpec
from modelyard_operator.store import Key
from modelyard_operator.traffic.legs import Leg
from modelyard_operator.traffic.proxy import Problem

INTERVAL: Final = timedelta(seconds=5)
"""Between looks at a certificate that is not trusted."""
TIMEOUT_S: Final = 2.0


@dataclass
class Encryption:
    """Looks at the certificates of pods.

    Attributes:
        port: Where a pod speaks TLS.
    """

    port: int = HTTPS_PORT
    _trusted: dict[Key, set[tuple[str, str]]] = field(default_factory=dict)
    """Revisions, each with the authority that its certificate was trusted by."""

    async def complete(self, observed: Observed) -> Observed:
        """Return the observation with the revisions that requests may be sent to in TLS.

        Whoever gets requests in TLS already is not looked at again: what the routes say holds.

        Args:
            observed: Pods, the authority, and the live routes.
        """
        owner = observed.model_deployment
        key = Key(owner.namespace, owner.name)
        tls = observed.exposure.backend_tls
        if tls is None:
            self.forget(key)
            return observed
        authority = (observed.config_maps.get(tls.ca_config_map_name) or {}).get(CA_KEY)
        if not authority:  # the library would take an empty one for the system's
            return replace(observed, encrypted=_routed(observed), untrusted=_missing(tls))
        known = self._trusted.setdefault(key, set())
        asked = {
            revision: pod
            for revision, pod in _speaking(observed).items()
            if (revision, authority) not in known
        }
        host = names.certified_host(owner.name, owner.namespace)
        problems = await asyncio.gather(
            *(look(address, self.port, authority, host) for address in asked.values())
        )
        objections = dict(zip(asked, problems, strict=True))
        known |= {(revision, authority) for revision in asked if objections[revision] is None}
        trusted = {revision for revision, by in known if by == authority}
        return replace(
            observed,
            encrypted=frozenset(trusted & observed.workloads.keys()) | _routed(observed),
            untrusted=_problem(objections, host),
        )

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a ModelDeployment that is gone."""
        self._trusted.pop(key, None)


def asks_for_certificates(observed: Observed, now: datetime) -> datetime | None:
    """Return when to look again; None while every certificate is trusted."""
    return now + INTERVAL if observed.untrusted else None


async def look(address: str, port: int, authority: str, host: str) -> str | None:
    """Say why a server's certificate is not trusted; None when it is.

    Args:
        address: IP address.
        port: Where it speaks TLS.
        authority: Whom to trust, as PEM.
        host: Name that the certificate must hold.
    """
    try:
        context = ssl.create_default_context(cadata=authority)
    except ssl.SSLError as error:
        return f"{CA_KEY} is no certificate: {error.reason or error}"
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(
                address, port, ssl=context, server_hostname=host
            )
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except TimeoutError:
        return f"no answer on port {port} within {TIMEOUT_S:g} s"
    except OSError as error:
        return f"port {port}: {error.strerror or error}"
    writer.close()
    return None


def _speaking(observed: Observed) -> dict[str, str]:
    """Return the address of a ready pod of each revision that has ports for TLS."""
    found = {}
    for revision, workload in observed.workloads.items():
        if not speaks_tls(workload.get("spec", {}).get("template", {})):
            continue
        pods = (pod.get("status", {}).get("podIP") for pod in observed.ready_pods(revision))
        if address := next(filter(None, pods), None):
            found[revision] = address
    return found


def _routed(observed: Observed) -> frozenset[str]:
    """Return the revisions that get requests in TLS."""
    routes = [one for one in observed.live_routes.values() if one.leg is Leg.TLS]
    return frozenset(name for one in routes for name in one.revisions)


def _missing(tls: BackendTLSSpec) -> Problem:
    text = (
        f"spec.exposure.backendTLS.caConfigMapName: expected a ConfigMap {tls.ca_config_map_name!r} "
        f"with the key {CA_KEY!r}"
    )
    return Problem("ReferenceNotFound", text)


def _problem(objections: Mapping[str, str | None], host: str) -> Problem | None:
    told = [f"{revision}: {problem}" for revision, problem in objections.items() if problem]
    if not told:
        return None
    text = f"the certificate of {'; '.join(told)} (asked for {host})"
    return Problem("CertificateNotTrusted", text)
