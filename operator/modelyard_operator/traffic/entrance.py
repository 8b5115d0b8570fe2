"""Where a proxy listens, as far as its routes and its Gateway say."""

from collections.abc import Mapping
from typing import Any, Final

from modelyard_operator.resources import names
from modelyard_operator.spec import ExposureSpec
from modelyard_operator.traffic.listeners import PORT as TLS_PORT
from modelyard_operator.traffic.proxy import Address, Proxy

Manifest = dict[str, Any]

HTTP_PORT: Final = 80


def entrance(
    proxy: Proxy, exposure: ExposureSpec, children: Mapping[tuple[str, str], Manifest], name: str
) -> Address | None:
    """Return where requests of an exposure come in; None where nothing tells.

    Args:
        proxy: The proxy.
        exposure: What is asked of it.
        children: Live children of the ModelDeployment.
        name: Name of the ModelDeployment.

    References:
        https://gateway-api.sigs.k8s.io/reference/spec/#gatewaystatusaddress
        https://kubernetes.io/docs/reference/kubernetes-api/networking/ingress-v1/#IngressStatus
    """
    own = exposure.tls is not None
    if proxy.dialect == "Gateway":
        found = proxy.found.address
        adds = own and proxy.found.takes_listeners
        return found._replace(port=TLS_PORT, tls=True) if found and adds else found
    ingress = children.get(("Ingress", names.ingress(name))) or {}
    balancers = ingress.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    hosts = (one.get("ip") or one.get("hostname") for one in balancers)
    port = TLS_PORT if own else HTTP_PORT
    return next((Address(host, port, tls=own) for host in hosts if host), None)
