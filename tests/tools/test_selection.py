from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from localcluster import addons, golang, provider
from localcluster.errors import LocalClusterError
from localcluster.existing import ExistingProvider
from localcluster.names import canonical
from localcluster.paths import Cache, ClusterPaths
from localcluster.report import Report, duration


class Machine(Protocol):
    def __call__(self, *, docker: bool = False, kind: bool = False, root: bool = False) -> None:
        """Pretend to be a machine with these."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with nothing: no Docker, no kind, no root."""

    def build(*, docker: bool = False, kind: bool = False, root: bool = False) -> None:
        monkeypatch.setattr(provider, "has_docker", lambda: docker)
        monkeypatch.setattr(
            "localcluster.provider.shutil.which", lambda _: "kind" if kind else None
        )
        monkeypatch.setattr("localcluster.provider.os.geteuid", lambda: 0 if root else 1000)
        monkeypatch.setattr("localcluster.provider.sys.platform", "linux")

    return build


def test_a_cluster_that_exists_comes_first(machine: Machine) -> None:
    machine(docker=True, kind=True, root=True)

    assert provider.choose("auto", {"KUBECONFIG": "/k"}, None) == "existing"
    assert provider.choose("auto", {}, Path("/k")) == "existing"


def test_kind_needs_an_engine_that_answers(machine: Machine) -> None:
    machine(docker=True, kind=True, root=True)
    assert provider.choose("auto", {}, None) == "kind"

    machine(docker=False, kind=True, root=True)
    assert provider.choose("auto", {}, None) == "local"


def test_what_is_asked_for_is_taken(machine: Machine) -> None:
    machine()

    assert provider.choose("local", {"KUBECONFIG": "/k"}, None) == "local"


def test_a_machine_with_nothing_is_told_what_to_do(machine: Machine) -> None:
    machine()

    with pytest.raises(LocalClusterError, match=r"KUBECONFIG.*Docker.*root"):
        provider.choose("auto", {}, None)


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(LocalClusterError, match=r"'minikube': expected one of auto, existing"):
        provider.choose("minikube", {}, None)


def test_an_existing_cluster_takes_no_images() -> None:
    cluster = ExistingProvider(Path("/k"), Report())

    with pytest.raises(LocalClusterError, match="push it to a registry"):
        cluster.load_archive("modelyard/operator:dev", Path("a.tar"))
    with pytest.raises(LocalClusterError, match="not made by this tool"):
        cluster.down(purge=False)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("redis", "docker.io/library/redis:latest"),
        ("modelyard/operator:dev", "docker.io/modelyard/operator:dev"),
        ("registry.example.com/acme/b:1", "registry.example.com/acme/b:1"),
        ("localhost/a", "localhost/a:latest"),
        ("registry:5000/a", "registry:5000/a:latest"),
        ("a@sha256:0", "docker.io/library/a@sha256:0"),
    ],
)
def test_image_names(name: str, full: str) -> None:
    assert canonical(name) == full


def test_an_artifact_is_built_anew_for_each_version_flag_and_source(tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.mkdir()
    for file in ("go.mod", "go.sum", "main.go"):
        (source / file).write_text(file)
    artifact = golang.Artifact(name="tool", version="1", source=source)
    keys = {artifact.key(), replace(artifact, version="2").key(), replace(artifact, tags="x").key()}
    (source / "main.go").write_text("changed")
    keys.add(artifact.key())

    assert len(keys) == 4
    assert artifact.key() == replace(artifact).key()


def test_names_on_the_machine_come_from_the_clusters_name(tmp_path: Path) -> None:
    mine, other = (ClusterPaths(Cache(tmp_path), name) for name in ("modelyard", "test"))

    assert mine.machine_name == "modelyard"
    assert other.machine_name == "modelyard-test"
    assert mine.root != other.root
    assert mine.containerd_root != other.containerd_root


@pytest.mark.parametrize("name", ["", "../x", "A", "1st", "a" * 33, "x-", "a/b"])
def test_a_name_that_could_leave_the_cache_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LocalClusterError, match="cluster name"):
        ClusterPaths(Cache(tmp_path), name)


def test_addons_are_remembered_and_ordered() -> None:
    assert addons.merge(["s3"], ["traefik", "dns", "s3"]) == ["dns", "traefik", "s3"]
    with pytest.raises(
        LocalClusterError, match="unknown add-on redis: expected all, or some of dns"
    ):
        addons.merge([], ["redis"])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (12.3, "12 s"), (60, "1:00"), (192.9, "3:12")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
