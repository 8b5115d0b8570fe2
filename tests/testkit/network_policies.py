"""Who may reach whom, as NetworkPolicies say: an evaluator for clusters that do not enforce them.

It knows what policies for incoming connections can say, and refuses what it does not know.

References:
    https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Manifest = Mapping[str, Any]
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """A pod, as policies look at it.

    Attributes:
        namespace: Name of its namespace.
        labels: Its labels.
        namespace_labels: Those of its namespace.
        address: Its IP address; empty if it has none.
        ports: Its named ports.
    """

    namespace: str
    labels: Labels
    namespace_labels: Labels
    address: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, pod: Manifest, namespace: Manifest) -> "Place":
        """Take a pod and its namespace as the API server has them."""
        ports = [port for one in pod["spec"]["containers"] for port in one.get("ports", ())]
        return cls(
            namespace["metadata"]["name"],
            pod["metadata"].get("labels", {}),
            namespace["metadata"].get("labels", {}),
            pod.get("status", {}).get("podIP", ""),
            {port["name"]: port["containerPort"] for port in ports if "name" in port},
        )


def may_reach(policies: Iterable[Manifest], source: Place, target: Place, port: int) -> bool:
    """Tell whether one pod may open a TCP connection to another.

    Without a policy that selects the target everybody may; with some, whom one of them names.

    Args:
        policies: All policies that there are.
        source: Who opens it.
        target: Whom it asks.
        port: Port of the target.

    Raises:
        ValueError: A policy is about outgoing connections, or says what this evaluator does not know.
    """
    isolating = [one for one in policies if _isolates(one, target)]
    rules = [rule for one in isolating for rule in one["spec"].get("ingress") or ()]
    return not isolating or any(
        _has_port(rule, target, port) and _has_source(rule, source, target) for rule in rules
    )


def selects(selector: Manifest, labels: Labels) -> bool:
    """Tell whether a label selector matches; an empty one matches everything."""
    _check(selector, {"matchLabels", "matchExpressions"})
    wanted = (selector.get("matchLabels") or {}).items()
    expressions = selector.get("matchExpressions") or ()
    return wanted <= labels.items() and all(_meets(one, labels) for one in expressions)


def _isolates(policy: Manifest, target: Place) -> bool:
    spec = policy["spec"]
    _check(spec, {"podSelector", "policyTypes", "ingress"})
    if spec["policyTypes"] != ["Ingress"]:
        raise ValueError(f"policyTypes: expected Ingress alone, got {spec['policyTypes']}")
    here = policy["metadata"]["namespace"] == target.namespace
    return here and selects(spec["podSelector"], target.labels)


def _has_port(rule: Manifest, target: Place, port: int) -> bool:
    _check(rule, {"from", "ports"})
    if not rule.get("ports"):
        return True
    for one in rule["ports"]:
        _check(one, {"protocol", "port", "endPort"})
        first = target.ports.get(one["port"]) if isinstance(one["port"], str) else one["port"]
        if first is not None and first <= port <= one.get("endPort", first):
            return bool(one.get("protocol", "TCP") == "TCP")
    return False


def _has_source(rule: Manifest, source: Place, target: Place) -> bool:
    return not rule.get("from") or any(_is_peer(one, source, target) for one in rule["from"])


def _is_peer(peer: Manifest, source: Place, target: Place) -> bool:
    _check(peer, {"podSelector", "namespaceSelector", "ipBlock"})
    if block := peer.get("ipBlock"):
        inside = [ip_address(source.address) in ip_network(net) for net in block.get("except", ())]
        return ip_address(source.address) in ip_network(block["cidr"]) and not any(inside)
    if "namespaceSelector" in peer:
        there = selects(peer["namespaceSelector"], source.namespace_labels)
    else:
        there = source.namespace == target.namespace
    return there and selects(peer.get("podSelector", {}), source.labels)


def _meets(expression: Manifest, labels: Labels) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", ())
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"operator: expected one of four, got {expression['operator']!r}")


def _check(part: Manifest, known: set[str]) -> None:
    if unknown := part.keys() - known:
        raise ValueError(f"a NetworkPolicy says what is not evaluated: {sorted(unknown)}")
