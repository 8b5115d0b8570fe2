from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from localcluster.addons import of_gateways
from localcluster.addons.install import (
    ARTIFACTS,
    DIGEST,
    install,
    refuse_from_source,
    render,
    unready,
)
from localcluster.addons.published import published
from localcluster.errors import LocalClusterError
from localcluster.report import Report

if TYPE_CHECKING:
    from pathlib import Path

DEFINITION: Final = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: NAME}
"""
POLICY: Final = """\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: safe-upgrades}
"""
VALUES = {
    "node_address": "10.77.0.1",
    "traefik_ip": "10.96.0.80",
    "s3_ip": "10.96.0.90",
    "traefik_image": "traefik",
    "s3_image": "s3",
    "python_image": "python",
    "metrics_server_image": "metrics-server",
    "kubelet_tls": "--kubelet-insecure-tls",
    "gateway_api_crds": DEFINITION.replace("NAME", "gateways"),
    **of_gateways(["gateway-api"]),
}
"""Values of a cluster with every add-on."""
CONDITIONS: Final = {"CustomResourceDefinition": "Established"}


def status(
    *, generation: int = 1, available: str = "True", updated: int = 1, type_: str = "Available"
) -> dict[str, Any]:
    return {
        "observedGeneration": generation,
        "replicas": 1,
        "updatedReplicas": updated,
        "conditions": [{"type": type_, "status": available}],
    }


def as_seen(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """What the cluster would return once everything works."""
    seen = {}
    for item in copy.deepcopy(objects):
        item["metadata"]["generation"] = 1
        item["status"] = status(type_=CONDITIONS.get(item["kind"], "Available"))
        seen[item["kind"], item["metadata"]["name"]] = item
    return seen


@pytest.mark.parametrize("name", ARTIFACTS)
def test_an_addon_that_works_needs_nothing(name: str) -> None:
    manifest = render(name, VALUES)

    assert unready({name: manifest}, as_seen(manifest)) == {}
    assert unready({name: manifest}, {}) != {}


def test_every_pod_of_an_addon_is_restricted() -> None:
    pods = [
        item["spec"]["template"]["spec"]
        for name in ARTIFACTS
        for item in render(name, VALUES)
        if item["kind"] == "Deployment"
    ]
    assert len(pods) == 3
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert not container["securityContext"]["allowPrivilegeEscalation"]


def test_a_changed_value_asks_for_a_new_apply() -> None:
    before = as_seen(render("traefik", VALUES))
    changed = render("traefik", {**VALUES, "traefik_image": "traefik:next"})

    assert unready({"traefik": changed}, before) == {"traefik": "Deployment/traefik"}


@pytest.mark.parametrize(
    "seen_status",
    [{}, status(available="False"), status(generation=0), status(updated=0)],
    ids=["no status", "not available", "older generation", "old pods"],
)
def test_a_deployment_that_is_not_available_yet_is_waited_for(seen_status: dict[str, Any]) -> None:
    manifest = render("s3", VALUES)
    seen = as_seen(manifest)
    seen["Deployment", "s3"]["status"] = seen_status

    assert unready({"s3": manifest}, seen) == {"s3": "Deployment/s3"}


def test_all_objects_of_an_addon_carry_one_digest() -> None:
    digests = {item["metadata"]["annotations"][DIGEST] for item in render("dns", VALUES)}

    assert len(digests) == 1


def test_traefik_has_a_gateway_where_the_cluster_knows_what_that_is() -> None:
    without = render("traefik", {**VALUES, **of_gateways(["traefik"])})
    beside = render("traefik", VALUES)

    kinds = {item["kind"] for item in beside} - {item["kind"] for item in without}
    assert kinds == {"Gateway", "GatewayClass"}
    (arguments,) = (
        item["spec"]["template"]["spec"]["containers"][0]["args"]
        for item in without
        if item["kind"] == "Deployment"
    )
    assert "--providers.kubernetesgateway=false" in arguments
    assert "--providers.kubernetesingressnginx=true" in arguments


def test_definitions_are_applied_until_the_server_knows_them() -> None:
    calls: list[tuple[str, ...]] = []
    seen = as_seen(render("gateway-api", VALUES))

    def kubectl(*arguments: str, stdin: str | None = None) -> str:
        if arguments[0] == "get":
            return json.dumps({"items": list(seen.values()) if calls else []})
        kinds = [item["kind"] for item in json.loads(stdin)["items"]] if stdin else []
        calls.append((arguments[0], *kinds))
        return ""

    install(kubectl, ["gateway-api"], VALUES, Report())

    assert calls == [("apply", "CustomResourceDefinition"), ("wait",)]


def test_only_the_definitions_of_a_module_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / "standard"
    folder.mkdir()
    (folder / "a.yaml").write_text(f"# a\n{DEFINITION.replace('NAME', 'a')}")
    (folder / "b.yaml").write_text(f"# b\n{DEFINITION.replace('NAME', 'b')}")
    (folder / "policy.yaml").write_text(POLICY)

    objects = render("gateway-api", published({"gateway-api": tmp_path}))

    assert [item["metadata"]["name"] for item in objects] == ["a", "b"]


def test_other_providers_say_where_to_get_the_gateway_api() -> None:
    refuse_from_source(["traefik"])
    with pytest.raises(LocalClusterError, match=r"v1[0-9.]+/standard-install\.yaml"):
        refuse_from_source(["traefik", "gateway-api"])
