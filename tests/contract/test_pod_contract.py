"""The operator's pods, held to docs/reference/runtime-contract.md: ports, commands and mounts."""

import re

import pytest

from modelyard_operator import runtime_contract as contract
from modelyard_operator.revision import Revision
from testkit.contract_pods import REVISIONS, container, section
from testkit.crd import ROOT
from testkit.operator_objects import model_deployment, revision_of


def test_ports_and_probes() -> None:
    runtime = container(REVISIONS["bare"], "runtime")
    ports = {one["name"]: one["containerPort"] for one in runtime["ports"]}
    assert ports == {
        "http": contract.HTTP_PORT,
        "grpc": contract.GRPC_PORT,
        "metrics": contract.METRICS_PORT,
    }
    for name, port in ports.items():
        assert f"| {port} | `{name}` |" in section("Ports")
    probes = {one: runtime[f"{one}Probe"]["httpGet"]["path"] for one in ("startup", "liveness")}
    assert set(probes.values()) == {contract.LIVE_PATH}
    assert runtime["readinessProbe"]["httpGet"]["path"] == contract.READY_PATH
    for path in (contract.LIVE_PATH, contract.READY_PATH):
        assert f"`GET :8080{path}`" in section("Ports")
    source = (ROOT / "runtime" / "modelyard_runtime" / "api" / "health.py").read_text()
    assert {"/health/live", "/health/ready"} <= set(re.findall(r'"(/health/[a-z]+)"', source))


@pytest.mark.parametrize(("name", "module"), [("runtime", "serve"), ("model-fetch", "fetch")])
def test_the_commands_exist(name: str, module: str) -> None:
    command = container(REVISIONS["bare"], name)["command"]
    assert f"`{' '.join(command)}`" in section("The pod")
    package = ROOT / "runtime" / "modelyard_runtime"
    if module == "fetch":
        assert (package / "fetch" / "__main__.py").exists() or (package / "fetch.py").exists()
    else:
        assert "serve" in (package / "__main__.py").read_text()


def mounts(revision: Revision, name: str) -> dict[str, bool]:
    found = container(revision, name)["volumeMounts"]
    return {one["mountPath"]: bool(one.get("readOnly")) for one in found}


def test_paths() -> None:
    runtime, fetch = mounts(REVISIONS["full"], "runtime"), mounts(REVISIONS["full"], "model-fetch")
    assert runtime == {
        "/models": True,
        "/tmp": False,  # noqa: S108 - mount points in the pod
        "/dev/shm": False,  # noqa: S108
        "/etc/modelyard/directives": True,
        "/etc/modelyard/files": True,
        "/etc/modelyard/keys": True,
        "/mnt/claim": True,
    }
    assert fetch == {
        "/models": False,
        "/tmp": False,  # noqa: S108
        "/etc/modelyard/ca": True,
        "/mnt/claim": True,
    }
    for path in {*runtime, *fetch}:
        assert path in section("The pod"), path
    pod = REVISIONS["full"].template["spec"]
    assert pod["securityContext"]["runAsUser"] == contract.USER_ID
    assert f"the user is {contract.USER_ID}" in section("The pod")
    for one in (*pod["initContainers"], *pod["containers"]):
        assert one["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_secret_of_keys_is_optional() -> None:
    named = model_deployment(exposure={"auth": {"secretName": "own"}})
    for owner, secret in ((model_deployment(), "fraud-auth"), (named, "own")):
        volumes = revision_of(owner).template["spec"]["volumes"]
        (keys,) = [one["secret"] for one in volumes if one["name"] == "keys"]
        assert (keys["secretName"], keys["optional"]) == (secret, True)
    assert "`exposure.auth.secretName`, else `<name>-auth`; optional" in section("The pod")


def test_credentials_reach_model_fetch_only() -> None:
    secret = [{"secretRef": {"name": "s3"}}]
    assert container(REVISIONS["full"], "model-fetch")["envFrom"] == secret
    assert "envFrom" not in container(REVISIONS["full"], "runtime")
