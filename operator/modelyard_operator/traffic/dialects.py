"""The dialects that routes are written in, behind one small interface."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from modelyard_operator.spec import ModelDeployment
from modelyard_operator.traffic.gateway import read_http_route, render_http_route
from modelyard_operator.traffic.ingress import read_ingresses, render_ingresses
from modelyard_operator.traffic.plan import NO_ROUTES, LiveRoutes, TrafficPlan
from modelyard_operator.traffic.proxy import Proxy

Manifest = dict[str, Any]
Children = Mapping[tuple[str, str], Manifest]
"""Children of a ModelDeployment by kind and name."""


class Dialect(NamedTuple):
    """How one kind of routes is written, and read back.

    Attributes:
        kind: Kind of the objects that hold the weights.
        render: Returns every object that a plan needs, in the order of writing.
        read: Returns what the live objects of the ModelDeployment of a name say.
    """

    kind: str
    render: Callable[[ModelDeployment, TrafficPlan], list[Manifest]]
    read: Callable[[str, Children], LiveRoutes]


DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {
        "Ingress": Dialect("Ingress", render_ingresses, read_ingresses),
        "Gateway": Dialect("HTTPRoute", render_http_route, read_http_route),
    }
)


def render_routes(model_deployment: ModelDeployment, plan: TrafficPlan) -> list[Manifest]:
    """Render the plan: twice while one proxy takes over from another.

    There is nothing without a backend, and nothing while all hosts are somebody else's.
    """
    if plan.backends.primary is None or plan.proxy.withheld:
        return []
    return [
        route
        for proxy in (plan.proxy, plan.proxy.leaving)
        if proxy is not None and proxy.dialect is not None
        for route in DIALECTS[proxy.dialect].render(model_deployment, replace(plan, proxy=proxy))
    ]


def read_routes(proxy: Proxy, name: str, children: Children) -> LiveRoutes:
    """Return what the routes say that are written for a proxy.

    Args:
        proxy: The proxy.
        name: Name of the ModelDeployment.
        children: Its live children.
    """
    if proxy.dialect is None or proxy.withheld:
        return NO_ROUTES
    return DIALECTS[proxy.dialect].read(name, children)


def live_routes(name: str, children: Children) -> dict[str, LiveRoutes]:
    """Return what the routes of each dialect say that there are objects of.

    Args:
        name: Name of the ModelDeployment.
        children: Its live children.
    """
    kinds = {kind for kind, _ in children}
    return {
        dialect: known.read(name, children)
        for dialect, known in DIALECTS.items()
        if known.kind in kinds
    }
