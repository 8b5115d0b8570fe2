"""The rules of an HTTPRoute: who gets which requests, for each port that the model answers at.

HTTP and gRPC share the hosts. gRPC has no prefix of paths, so that its services are paths of their own
beside the root. They go through the same HTTPRoute, since Traefik refuses a GRPCRoute of a host that an
HTTPRoute has; the port's ``appProtocol`` says that it speaks HTTP/2.

Rules that are always there come first, and the others follow: Envoy Gateway names Envoy's clusters by
the positions of the rules, and a position that goes to another revision or protocol is asked by the old
routes until Envoy has the new ones, which takes seconds. The order decides nothing: the rule with the
longest path wins, then the one with the most headers.

References:
    https://gateway-api.sigs.k8s.io/guides/backend-protocol/
    https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from modelyard_operator.resources.names import sticky_cookie
from modelyard_operator.resources.service import GRPC_PORT, GRPCS_PORT, HTTPS_PORT, PORT
from modelyard_operator.traffic.capabilities import MATCH_COOKIE, STICKINESS, has
from modelyard_operator.traffic.envoy_policies import NO_LIMIT
from modelyard_operator.traffic.legs import Ports, build_backend_refs
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.shares import WHOLE

Manifest = dict[str, Any]

HTTP_PORTS: Final = Ports(PORT, HTTPS_PORT)
_GRPC_PORTS: Final = Ports(GRPC_PORT, GRPCS_PORT)
MAIN_RULE: Final = "main"
"""The rule that the weights are read back from."""
REQUEST_TIMEOUT: Final = "HTTPRouteRequestTimeout"
"""Name of the feature in ``GatewayClass.status.supportedFeatures``."""


class _Entrance(NamedTuple):
    """Paths that one port of the model answers.

    Attributes:
        prefix: What the names of its rules begin with.
        paths: Prefixes of the paths.
        ports: Ports of the revisions' Services.
    """

    prefix: str
    paths: tuple[str, ...]
    ports: Ports


class _Group(NamedTuple):
    """Requests that are treated alike.

    Attributes:
        name: What the names of its rules end with.
        shares: Per mille of them that each revision gets.
        headers: Headers of which one is enough to belong to it; everybody does without any.
    """

    name: str
    shares: Mapping[str, int]
    headers: list[Manifest]


def build_rules(plan: TrafficPlan) -> list[Manifest]:
    """Build every rule, those that divide the requests before those that pin some of them.

    Args:
        plan: Who gets what; it has a primary.
    """
    entrances = [_Entrance("", (plan.exposure.path,), HTTP_PORTS)]
    if plan.grpc_services:
        entrances.append(_Entrance("grpc-", plan.grpc_services, _GRPC_PORTS))
    return [_rule(group, entrance, plan) for group in _groups(plan) for entrance in entrances]


def _groups(plan: TrafficPlan) -> Iterator[_Group]:
    """The whole of the requests that are pinned: alone with a weight of 0 a backend drops them.

    The rules of pins and cookies stay when no requests are divided, and lead to where everybody goes:
    Envoy hears of a rule and of its cluster one after the other, and answers 503 to who comes between.
    """
    everybody, pins, cookie = plan.shares, _pins(plan), _sticky_cookie(plan)
    stable, canary = str(plan.backends.primary), str(plan.backends.canary)
    candidate = {canary: WHOLE} if len(plan.weights) > 1 else everybody
    yield _Group(MAIN_RULE, everybody, [])
    if cookie and plan.cookie:
        yield _Group("pinned", candidate, [*pins, _cookie(cookie, "always")])
        yield _Group("kept", {stable: WHOLE}, [_cookie(cookie, "never")])
        return
    if pins:
        yield _Group("pinned", candidate, pins)
    elif cookie:
        yield _Group("pinned", everybody, [_cookie(cookie, "always")])
    if cookie:
        yield _Group("kept", everybody, [_cookie(cookie, "never")])


def _sticky_cookie(plan: TrafficPlan) -> str | None:
    """Return the cookie that clients keep a revision by, or have kept the last candidate by."""
    if plan.stickiness is None or not has(plan.proxy, STICKINESS):
        return None
    backends = plan.backends
    return sticky_cookie(plan.stickiness.cookie, str(backends.canary or backends.primary))


def _pins(plan: TrafficPlan) -> list[Manifest]:
    """Headers of which one is enough to reach the candidate; the first that are asked for count."""
    pins = [
        {"name": one.header.name, "value": one.header.value} for one in plan.match if one.header
    ]
    if has(plan.proxy, MATCH_COOKIE):
        cookies = [one.cookie for one in plan.match if one.cookie]
        pins += [_cookie(cookie.name, cookie.value) for cookie in cookies]
    return pins


def _cookie(name: str, value: str) -> Manifest:
    """Match one of the cookies of a request.

    The schema holds both to characters that mean themselves in a regular expression. Envoy compares
    the whole header, Traefik searches it.
    """
    expression = f"^(.*; *)?{name}={value}(;.*)?$"
    return {"type": "RegularExpression", "name": "Cookie", "value": expression}


def _rule(group: _Group, entrance: _Entrance, plan: TrafficPlan) -> Manifest:
    matches: list[Manifest] = [
        {"path": {"type": "PathPrefix", "value": path}} for path in entrance.paths
    ]
    if group.headers:
        matches = [{**match, "headers": [one]} for match in matches for one in group.headers]
    rule: Manifest = {
        "name": f"{entrance.prefix}{group.name}",
        "matches": matches,
        "backendRefs": build_backend_refs(group.shares, plan.encrypted, entrance.ports, plan.leg),
    }
    proxy = plan.proxy
    if proxy.profile == "envoy-gateway" or REQUEST_TIMEOUT in proxy.found.features:
        # Left out, Envoy would end every answer after 15 s, streams included.
        rule["timeouts"] = {"request": NO_LIMIT}
    return rule
