from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from localcluster.addons import of_gateways
from localcluster.addons.install import (
    ARTIFACTS,
    DIGEST,
    PUBLISHED,
    install,
    merge,
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
CONTROLLER: Final = """\
# Helm leaves documents empty.
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: envoy-gateway, namespace: envoy-gateway-system}
spec:
  replicas: 1
  template:
    spec:
      securityContext: {runAsNonRoot: true}
      containers: []
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
    "envoy_ip": "10.96.0.81",
    "envoy_image": "envoy",
    "gateway_api_crds": DEFINITION.replace("NAME", "gateways"),
    "envoy_gateway_chart": f"{DEFINITION.replace('NAME', 'envoyproxies')}---\n{CONTROLLER}",
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
    assert len(pods) == 4
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


def test_envoy_gateway_comes_with_what_it_needs() -> None:
    assert merge(["traefik"], ["envoy-gateway"]) == [
        "dns",
        "gateway-api",
        "traefik",
        "envoy-gateway",
    ]
    with pytest.raises(LocalClusterError, match="unknown add-on envoy:"):
        merge([], ["envoy"])


def test_all_is_what_the_provider_can_install() -> None:
    assert merge([], ["all"]) == list(ARTIFACTS)
    elsewhere = merge(["dns"], ["all"], possible=PUBLISHED)
    refuse_from_source(elsewhere)
    assert {"dns", "traefik", "s3", "metrics-server"} == set(elsewhere)


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


def test_definitions_are_known_before_what_they_define() -> None:
    calls: list[tuple[str, list[str]]] = []
    manifest = render("envoy-gateway", VALUES)
    seen = as_seen(manifest)

    def kubectl(*arguments: str, stdin: str | None = None) -> str:
        if arguments[0] == "get":
            return json.dumps({"items": list(seen.values()) if calls else []})
        items = json.loads(stdin)["items"] if stdin else []
        calls.append((arguments[0], [item["kind"] for item in items]))
        return ""

    install(kubectl, ["envoy-gateway"], VALUES, Report())

    assert [verb for verb, _ in calls] == ["apply", "wait", "apply"]
    (_, first), _, (_, second) = calls
    assert first == ["CustomResourceDefinition"]
    assert {"EnvoyProxy", "Gateway", "Deployment"} <= set(second)
    assert "CustomResourceDefinition" not in second


def test_what_others_publish_is_read_from_their_modules(tmp_path: Path) -> None:
    api, chart = tmp_path / "api", tmp_path / "envoy"
    for folder, name in (
        (api / "standard", "gateways"),
        (chart / "gateway-helm/charts/crds/crds/generated", "x"),
    ):
        folder.mkdir(parents=True)
        (folder / "a.yaml").write_text(f"# {name}\n{DEFINITION.replace('NAME', name)}")
        (folder / "policy.yaml").write_text(POLICY)
    values = chart / "gateway-helm" / "values.tmpl.yaml"
    values.write_text("image: ${GatewayImage}\npullPolicy: ${GatewayImagePullPolicy}\n")
    given: list[str | None] = []

    def helm(*arguments: str, stdin: str | None = None) -> str:
        assert arguments[:3] == ("template", "envoy-gateway", str(chart / "gateway-helm"))
        given.append(stdin)
        return CONTROLLER

    found = published({"gateway-api": api, "envoy-gateway": chart}, helm, "envoy-gateway:1")

    assert given == ["image: envoy-gateway:1\npullPolicy: IfNotPresent\n"]
    assert [one["metadata"]["name"] for one in render("gateway-api", found)] == ["gateways"]
    names = [one["kind"] for one in render("envoy-gateway", {**VALUES, **found})]
    assert names[-2:] == ["CustomResourceDefinition", "Deployment"]
    assert "ValidatingAdmissionPolicy" not in names


def test_other_providers_say_where_to_get_envoy_gateway() -> None:
    refuse_from_source(["traefik"])
    with pytest.raises(LocalClusterError, match="own chart, oci://docker"):
        refuse_from_source(["traefik", "envoy-gateway"])
