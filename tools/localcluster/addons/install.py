"""Installs add-ons: their images, then their objects, then the wait until they serve."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Final, Protocol

import yaml

from localcluster import golang
from localcluster.errors import LocalClusterError
from localcluster.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from localcluster.golang import Artifact
    from localcluster.report import Report

FOLDER: Final = Path(__file__).parent
ARTIFACTS: Final[dict[str, tuple[Artifact, ...]]] = {
    "dns": (golang.COREDNS,),
    "traefik": (),
    "s3": (golang.VERSITYGW,),
    "metrics-server": (golang.METRICS_SERVER,),
}
"""Every add-on, in the order of installation, with the programs that it is built from."""
TRAEFIK_ADDRESS: Final = "10.96.0.80"
S3_ADDRESS: Final = "10.96.0.90"
"""Fixed addresses of Services, where the tool makes the cluster."""
MANAGED_BY: Final = "localcluster"
DIGEST: Final = "modelyard.dev/manifest"
WATCHED: Final = {"Service", "Deployment", "APIService"}
"""Kinds whose presence and state tell whether an add-on works."""
READY_TIMEOUT_S: Final = 120.0


class Kubectl(Protocol):
    """Runs kubectl against a cluster."""

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl with these arguments and return what it prints."""


def merge(recorded: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return all add-ons that the cluster should have, in the order of installation.

    Raises:
        LocalClusterError: One of them is unknown.
    """
    names = {*recorded, *wanted}
    unknown = ", ".join(sorted(names - set(ARTIFACTS)))
    if unknown:
        raise LocalClusterError(
            f"unknown add-on {unknown}: expected some of {', '.join(ARTIFACTS)}"
        )
    return [name for name in ARTIFACTS if name in names]


def artifacts(wanted: Sequence[str]) -> list[Artifact]:
    """Return the programs that these add-ons are built from."""
    return [artifact for name in wanted for artifact in ARTIFACTS[name]]


def render(name: str, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return an add-on's objects, each labelled and marked with the digest of all of them.

    Args:
        name: The add-on.
        values: Addresses and images of this cluster.

    Returns:
        Objects in the order in which they are applied.
    """
    text = Template((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")).substitute(values)
    objects: list[dict[str, Any]] = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    for item in objects:
        item["metadata"].setdefault("labels", {})["app.kubernetes.io/managed-by"] = MANAGED_BY
        item["metadata"].setdefault("annotations", {})[DIGEST] = digest
    return objects


def install(
    kubectl: Kubectl,
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
            bundle = {"apiVersion": "v1", "kind": "List", "items": manifests[name]}
            kubectl(
                *("apply", "--server-side", "--force-conflicts"),
                *(f"--field-manager={MANAGED_BY}", "--filename=-"),
                stdin=json.dumps(bundle),
            )
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


def observe(kubectl: Kubectl) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the add-ons' objects in the cluster, by kind and name."""
    listed = kubectl(
        *("get", "services,deployments.apps,apiservices.apiregistration.k8s.io"),
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
    if wanted["kind"] == "Service":
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
    return conditions.get("Available") == "True"
