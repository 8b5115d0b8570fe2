"""The proxies that the demo can go through: one for each dialect of routes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from demo.cluster import Cluster

PORT: Final = 80


@dataclass(frozen=True)
class Proxy:
    """What stands between the clients and the models.

    Attributes:
        name: What people call it.
        namespace: Where it runs.
        addons: What the cluster needs for the demo, the proxy included.
        values: Of the chart: they make the operator write routes for this proxy.
        routes: Kind of these, as kubectl calls it.
        gateway: Namespace and name of its Gateway; None where Ingresses lead to the Service that has
            the namespace's name.
    """

    name: str
    namespace: str
    addons: tuple[str, ...]
    values: Mapping[str, str]
    routes: str
    gateway: tuple[str, str] | None = None

    def address(self, cluster: Cluster) -> AbstractContextManager[str]:
        """Give an address, ``host:port``, at which the demo's programs reach the proxy."""
        if self.gateway is None:
            return cluster.address(self.namespace, self.namespace, PORT)
        namespace, name = self.gateway
        found = cluster.get("gateway", name, f"--namespace={namespace}")
        return nullcontext(f"{found['status']['addresses'][0]['value']}:{PORT}")


PROXIES: Final[Mapping[str, Proxy]] = {
    "Ingress": Proxy(
        name="Traefik",
        namespace="traefik",
        addons=("dns", "traefik", "s3"),
        values={"ingressClassProfiles.nginx": "traefik-nginx"},
        routes="ingress",
    ),
    "Gateway": Proxy(
        name="Envoy Gateway",
        namespace="envoy-gateway-system",
        addons=("dns", "s3", "envoy-gateway"),
        # The models' files name an IngressClass: this is about all that leave the dialect open.
        values={
            "defaultDialect": "Gateway",
            "defaultGateway.namespace": "gateways",
            "defaultGateway.name": "public",
        },
        routes="httproute",
        gateway=("gateways", "public"),
    ),
}
"""Proxies by the dialect of their routes."""
