"""From the proxy to the pods in TLS: policies of the Gateway API for each revision that speaks it.

They stand beside their revision's Service from the beginning, so that they are there before a route
names the ports that they are about.

References:
    https://gateway-api.sigs.k8s.io/api-types/backendtlspolicy/
"""

from collections.abc import Mapping
from typing import Any

from modelyard_operator.kinds import BACKEND_TLS_POLICY
from modelyard_operator.resources import labels, names
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.resources.pod_template import GRPCS, HTTPS
from modelyard_operator.spec import ModelDeployment
from modelyard_operator.traffic.legs import Leg
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import Problem

Manifest = dict[str, Any]


def render_backend_policies(owner: ModelDeployment, plan: TrafficPlan) -> list[Manifest]:
    """Render one for each port of each revision that speaks TLS; none where nobody asks for it, or nobody can.

    Args:
        owner: The ModelDeployment.
        plan: What the routes are for.
    """
    tls = plan.backend_tls
    if tls is None:
        return []
    validation = {
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": tls.ca_config_map_name}],
        "hostname": names.certified_host(owner.name, owner.namespace),
    }
    own = labels.for_model_deployment(owner.name)
    return [
        {
            "apiVersion": BACKEND_TLS_POLICY.api_version,
            "kind": BACKEND_TLS_POLICY.name,
            "metadata": build_metadata(owner, f"{revision}-{port}", own),
            "spec": {
                "targetRefs": [
                    {"group": "", "kind": "Service", "name": revision, "sectionName": port}
                ],
                "validation": validation,
            },
        }
        for revision in sorted(plan.certified)
        # To Traefik two ports of a Service in one policy are in each other's way (Conflicted).
        for port in (HTTPS, GRPCS)
    ]


def plain_text_problem(plan: TrafficPlan, untrusted: Problem | None) -> Problem | None:
    """Return why requests do not go to the pods in TLS, where somebody asks for that.

    Args:
        plan: Who gets requests, and how.
        untrusted: Why a certificate is not trusted, if one is not.
    """
    if plan.backend_tls is None or not plan.weights:
        return None
    if untrusted:
        end = "proxies refuse it too" if plan.encrypts else "requests go there in plain text"
        return Problem(untrusted.reason, f"{untrusted.message}; {end}")
    if plan.leg is Leg.TLS:
        return None
    names = ", ".join(sorted(plan.unencrypted))
    why = f"{names} has shown no certificate" if names else "the proxy learns the ports for TLS"
    return Problem("PodsInPlainText", f"requests go to the pods in plain text while {why}")


def backend_policy_problem(children: Mapping[tuple[str, str], Manifest]) -> Problem | None:
    """Return why a proxy does not follow a policy, in its own words; None when none objects.

    A policy that no route has need of yet has nobody who says anything about it.

    Args:
        children: Live children of the ModelDeployment, by kind and name.
    """
    for (kind, name), policy in sorted(children.items()):
        if kind != BACKEND_TLS_POLICY.name:
            continue
        for ancestor in policy.get("status", {}).get("ancestors") or ():
            for one in ancestor.get("conditions") or ():
                current = one.get("observedGeneration", 0) >= policy["metadata"]["generation"]
                if current and one["status"] == "False":
                    reason, message = one.get("reason", ""), one.get("message", "")
                    return Problem("PolicyNotAccepted", f"{kind} {name}: {reason}: {message}")
    return None
