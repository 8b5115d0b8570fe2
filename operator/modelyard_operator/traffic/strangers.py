"""Callers who show no credentials are turned away by Envoy, with the model server's own words.

Whether credentials hold only the model server can tell: of a key it may know the hash alone. So
Envoy looks whether there are any, and lets all the others through with what they have shown. That is
a route like any other; a SecurityPolicy would end the other models' streams at each change, and
replace the one that the owner of the Gateway has given it.

References:
    https://gateway.envoyproxy.io/docs/api/extension_types/#httpdirectresponsefilter
"""

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from modelyard_operator.kinds import HTTP_ROUTE_FILTER
from modelyard_operator.traffic.plan import TrafficPlan

Manifest = dict[str, Any]

OPEN_RULE: Final = "open"
STRANGERS_RULE: Final = "strangers"
OPEN_PATHS: Final = ("/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json")
"""What the model server tells everybody."""
CREDENTIALS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"APIKey": ("authorization", "x-api-key"), "JWT": ("authorization",)}
)
"""Headers that may carry credentials, by the type of ``exposure.auth``."""
WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "APIKey": "a key is required: 'Authorization: Bearer …' or 'X-API-Key: …'",
        "JWT": "a token is required: 'Authorization: Bearer …'",
    }
)
"""What the model server says to a request without any."""
REQUEST_ID: Final = "%REQ(X-REQUEST-ID)%"


def turns_away(plan: TrafficPlan) -> bool:
    """Tell whether the proxy looks for credentials."""
    return (
        plan.proxy.profile == "envoy-gateway"
        and plan.exposure.auth.type != "None"
        and HTTP_ROUTE_FILTER.name not in plan.proxy.found.absent
    )


def guard(rules: list[Manifest], plan: TrafficPlan, name: str) -> list[Manifest]:
    """Return rules that only requests with credentials fit, and one for those without.

    Args:
        rules: Rules of the route, the one for everybody first; those of other paths than its own
            stay as they are.
        plan: What the route is for.
        name: Name of the filter that answers strangers.
    """
    path = {"path": {"type": "PathPrefix", "value": plan.exposure.path}}
    headers = CREDENTIALS[plan.exposure.auth.type]
    guarded = [
        {**rule, "matches": list(_guarded(rule["matches"], path, headers))} for rule in rules
    ]
    prefix = plan.exposure.path_prefix
    exact = [{"path": {"type": "Exact", "value": f"{prefix}{one}"}} for one in OPEN_PATHS]
    reference = {"group": HTTP_ROUTE_FILTER.group, "kind": HTTP_ROUTE_FILTER.name, "name": name}
    answers = {
        "name": STRANGERS_RULE,
        "matches": [path],
        "filters": [{"type": "ExtensionRef", "extensionRef": reference}],
    }
    everybody, opened = rules[0], {"name": OPEN_RULE, "matches": exact}
    divides = sum("headers" not in rule["matches"][0] for rule in rules)
    return [*guarded[:divides], {**everybody, **opened}, answers, *guarded[divides:]]


def render_answer(plan: TrafficPlan, metadata: Manifest) -> Manifest:
    """Render what strangers are answered: as the model server would.

    Args:
        plan: What the route is for.
        metadata: Name, labels and owner of the filter, which are the route's own.
    """
    problem = {
        "error": WORDS[plan.exposure.auth.type],
        "code": "unauthorized",
        "request_id": REQUEST_ID,
    }
    headers = {"WWW-Authenticate": "Bearer", "X-Request-Id": REQUEST_ID}
    return {
        "apiVersion": HTTP_ROUTE_FILTER.api_version,
        "kind": HTTP_ROUTE_FILTER.name,
        "metadata": metadata,
        "spec": {
            "directResponse": {
                "statusCode": 401,
                "contentType": "application/json",
                "body": {"type": "Inline", "inline": json.dumps(problem, ensure_ascii=False)},
                "header": {
                    "set": [{"name": one, "value": value} for one, value in headers.items()]
                },
            }
        },
    }


def _guarded(
    matches: list[Manifest], path: Manifest, headers: tuple[str, ...]
) -> Iterator[Manifest]:
    for match in matches:
        if match["path"] != path["path"]:
            yield match
            continue
        for name in headers:
            shown = {"type": "RegularExpression", "name": name, "value": ".+"}
            yield {**match, "headers": [*match.get("headers", ()), shown]}
