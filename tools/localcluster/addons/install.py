"""Installs add-ons: their images, then their objects, then the wait until they serve."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Final, Protocol

import yaml

from localcluster import golang, versions
from localcluster.errors import LocalClusterError
from localcluster.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from localcluster.golang import Artifact
    from localcluster.report import Report

FOLDER: Final = Path(__file__).parent
ARTIFACTS: Final[dict[str, tuple[Artifact, ...]]] = {
    "dns": (golang.COREDNS,),
    "gateway-api": (golang.GATEWAY_API,),
    "traefik": (),
    "s3": (golang.VERSITYGW,),
    "metrics-server": (golang.METRICS_SERVER,),
    "envoy-gateway": (golang.ENVOY_GATEWAY,),
}
"""Every add-on, in the order of installation, with the programs that it is built from."""
NEEDS: Final[dict[str, tuple[str, ...]]] = {"envoy-gateway": ("dns", "gateway-api")}
"""Add-ons that come with another."""
FROM_SOURCE: Final = ("gateway-api", "envoy-gateway")
"""Add-ons whose objects are read from their Go modules, which only the local provider has."""
ALL: Final = "all"
"""The name of all of them that a provider can install."""
PUBLISHED: Final = tuple(name for name in ARTIFACTS if name not in FROM_SOURCE)
"""What that means for the other providers."""
TRAEFIK_ADDRESS: Final = "10.96.0.80"
S3_ADDRESS: Final = "10.96.0.90"
ENVOY_ADDRESS: Final = "10.96.0.81"
"""Fixed addresses of Services, where the tool makes the cluster."""
MANAGED_BY: Final = "localcluster"
DIGEST: Final = "modelyard.dev/manifest"
DEFINITION: Final = "CustomResourceDefinition"
WATCHED: Final = {
    "Service": "",
    "Deployment": "Available",
    "APIService": "Available",
    DEFINITION: "Established",
}
"""Kinds whose presence tells whether an add-on works, and which condition does."""
READY_TIMEOUT_S: Final = 120.0


class Command(Protocol):
    """Runs kubectl, or helm, against a cluster."""

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it with these arguments and return what it prints."""


def merge(
    recorded: Iterable[str], wanted: Iterable[str], *, possible: Iterable[str] = tuple(ARTIFACTS)
) -> list[str]:
    """Return all add-ons that the cluster should have, in the order of installation.

    Args:
        recorded: What it was given before.
        wanted: What is asked for now; ``all`` among them asks for all that is possible.
        possible: What the provider can install.

    Raises:
        LocalClusterError: One of them is unknown.
    """
    names = {*recorded, *wanted}
    if ALL in names:
        names = names - {ALL} | set(possible)
    names |= {need for name in names for need in NEEDS.get(name, ())}
    unknown = ", ".join(sorted(names - set(ARTIFACTS)))
    if unknown:
        raise LocalClusterError(
            f"unknown add-on {unknown}: expected {ALL}, or some of {', '.join(ARTIFACTS)}"
        )
    return [name for name in ARTIFACTS if name in names]


def artifacts(wanted: Sequence[str]) -> list[Artifact]:
    """Return the programs that these add-ons are built from."""
    return [artifact for name in wanted for artifact in ARTIFACTS[name]]


def refuse_from_source(wanted: Iterable[str]) -> None:
    """Refuse what only the local provider can install.

    Raises:
        LocalClusterError: One of the add-ons is read from its Go module.
    """
    refused = [name for name in wanted if name in FROM_SOURCE]
    if refused:
        raise LocalClusterError(
            f"{', '.join(refused)}: installed by the local provider only. Here, install Envoy "
            "Gateway's own chart, oci://docker.io/envoyproxy/gateway-helm, "
            f"version v{versions.ENVOY_GATEWAY}, which brings the Gateway API"
        )


def of_gateways(wanted: Iterable[str]) -> dict[str, str]:
    """Return what Traefik's manifest says of Gateways: nothing where the API is unknown."""
    if "gateway-api" not in wanted:
        return {"has_gateway_api": "false", "traefik_gateway": ""}
    text = (FOLDER / "traefik-gateway.yaml").read_text(encoding="utf-8")
    return {"has_gateway_api": "true", "traefik_gateway": text}


def render(name: str, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return an add-on's objects, each labelled and marked with the digest of all of them.

    Args:
        name: The add-on.
        values: Addresses and images of this cluster.

    Returns:
        Objects in the order in which they are applied.
    """
    text = Template((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")).substitute(values)
    documents = yaml.load_all(text, Loader=yaml.CSafeLoader)
    objects: list[dict[str, Any]] = [document for document in documents if document]
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    for item in objects:
        item["metadata"].setdefault("labels", {})["app.kubernetes.io/managed-by"] = MANAGED_BY
        item["metadata"].setdefault("annotations", {})[DIGEST] = digest
    return objects


def install(
    kubectl: Command,
    wanted: Sequence[str],
    values: Mapping[str, str],
    report: Report,
    answers: Callable[[str], bool] = lambda _: True,
) -> None:
    """Apply what is missing or has changed, and wait until every add-on works.

    Args:
        kubectl: Runs kubectl against the cluster.
        wanted: Names of add-ons.
        values: Addresses and images of this cluster.
        report: Where progress goes.
        answers: Asks an add-on itself, by name: what the cluster tells of it may be old.

    Raises:
        LocalClusterError: An add-on does not become ready.
    """
    manifests = {name: render(name, values) for name in wanted}
    if not manifests:
        return

    def problems() -> dict[str, str]:
        found = unready(manifests, observe(kubectl))
        silent = {name: "no answer" for name in wanted if name not in found and not answers(name)}
        return {**found, **silent}

    pending = problems()
    if not pending:
        return
    with report.step(f"add-ons {', '.join(pending)}"):
        for name in pending:
            _apply(kubectl, manifests[name])
        missing = dict(pending)

        def works() -> bool:
            missing.clear()
            missing.update(problems())
            return not missing

        if not wait_until(works, READY_TIMEOUT_S, 0.5):
            raise LocalClusterError(
                f"not ready after {READY_TIMEOUT_S:.0f} s: "
                f"{'; '.join(f'{name} ({what})' for name, what in missing.items())}; "
                "`exec -- kubectl get events -A` may tell why"
            )


def _apply(kubectl: Command, manifest: Sequence[Mapping[str, Any]]) -> None:
    """Apply an add-on's objects, its definitions first and until the API server knows them."""
    kinds = [item for item in manifest if item["kind"] == DEFINITION]
    if kinds:
        _apply_all(kubectl, kinds)
        names = [f"crd/{item['metadata']['name']}" for item in kinds]
        kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    _apply_all(kubectl, [item for item in manifest if item["kind"] != DEFINITION])


def _apply_all(kubectl: Command, items: Sequence[Mapping[str, Any]]) -> None:
    if items:
        kubectl(
            *("apply", "--server-side", "--force-conflicts"),
            *(f"--field-manager={MANAGED_BY}", "--filename=-"),
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}),
        )


def observe(kubectl: Command) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the add-ons' objects in the cluster, by kind and name."""
    listed = kubectl(
        *("get", "services,deployments.apps,apiservices.apiregistration.k8s.io,crds"),
        *("--all-namespaces", f"--selector=app.kubernetes.io/managed-by={MANAGED_BY}", "-o=json"),
    )
    return {(i["kind"], i["metadata"]["name"]): i for i in json.loads(listed)["items"]}


def unready(
    manifests: Mapping[str, Sequence[Mapping[str, Any]]],
    observed: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, str]:
    """Return the add-ons that do not work (yet), each with its first missing object."""
    problems: dict[str, str] = {}
    for name, objects in manifests.items():
        for item in objects:
            key = (item["kind"], item["metadata"]["name"])
            if item["kind"] in WATCHED and not _serves(observed.get(key), item):
                problems.setdefault(name, "/".join(key))
    return problems


def _serves(live: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    if live is None:
        return False
    notes = live["metadata"].get("annotations", {})
    if notes.get(DIGEST) != wanted["metadata"]["annotations"][DIGEST]:
        return False
    needed = WATCHED[wanted["kind"]]
    if not needed:
        return True
    status = live.get("status", {})
    if wanted["kind"] == "Deployment":
        # The pods of an older generation may be available; they are not what was just applied.
        replicas = wanted["spec"]["replicas"]
        seen = (
            status.get("observedGeneration"),
            status.get("updatedReplicas"),
            status.get("replicas"),
        )
        if seen != (live["metadata"]["generation"], replicas, replicas):
            return False
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    return conditions.get(needed) == "True"
