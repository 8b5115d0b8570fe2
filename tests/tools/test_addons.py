from __future__ import annotations

import copy
from typing import Any

import pytest

from localcluster.addons.install import ARTIFACTS, DIGEST, render, unready

VALUES = {
    "node_address": "10.77.0.1",
    "traefik_ip": "10.96.0.80",
    "s3_ip": "10.96.0.90",
    "traefik_image": "traefik",
    "s3_image": "s3",
    "python_image": "python",
    "metrics_server_image": "metrics-server",
    "kubelet_tls": "--kubelet-insecure-tls",
}


def status(*, generation: int = 1, available: str = "True", updated: int = 1) -> dict[str, Any]:
    return {
        "observedGeneration": generation,
        "replicas": 1,
        "updatedReplicas": updated,
        "conditions": [{"type": "Available", "status": available}],
    }


def as_seen(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """What the cluster would return once everything works."""
    seen = {}
    for item in copy.deepcopy(objects):
        item["metadata"]["generation"] = 1
        item["status"] = status()
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
