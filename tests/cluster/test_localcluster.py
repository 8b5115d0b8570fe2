"""The cluster tool against itself, on a cluster of its own beside any other."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from localcluster import cgroups, packages
from localcluster.components import get_status
from localcluster.containerd import Containerd
from localcluster.namespaces import connect
from localcluster.paths import Cache, ClusterPaths
from localcluster.processes import ProcessIdentity, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or not packages.is_present("apt-get"),
        reason="the local provider needs Debian and root",
    ),
]

NAME = "selftest"
COMPONENTS = [
    "etcd",
    "apiserver",
    "controller-manager",
    "scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
    "coredns",
]
PATHS = ClusterPaths(Cache.from_environment(os.environ), NAME)
TRAEFIK = "http://10.96.0.80"


def tool(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localcluster", "--name", NAME, "--provider", "local"]
    return subprocess.run(
        [*command, *arguments], input=stdin, capture_output=True, text=True, check=False
    )


def up() -> None:
    done = tool("up")
    assert done.returncode == 0, done.stderr


def processes() -> dict[str, ProcessIdentity]:
    found = {}
    for path in PATHS.processes.glob("*.json"):
        known = ProcessIdentity.read(path)
        assert known is not None, path
        found[path.stem] = known
    return found


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    done = tool("exec", "--", "kubectl", *arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_whole() -> None:
    """Every process runs, the node is ready with its GPUs, and the proxy answers."""
    assert all(known.is_alive() for known in processes().values())
    node = json.loads(kubectl("get", "node", "node0", "-o=json"))
    conditions = {item["type"]: item["status"] for item in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "2"
    assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-L4"
    # Nothing is routed: the proxy itself says so, which shows pods, Services and kube-proxy.
    assert get_status(PATHS.network_namespace, f"{TRAEFIK}:80/") == http.HTTPStatus.NOT_FOUND


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    done = tool("up", "--addons", "dns,traefik")
    assert done.returncode == 0, done.stderr
    yield
    done = tool("down", "--purge")
    assert done.returncode == 0, done.stderr


def test_a_second_up_restarts_nothing(record_property: Callable[[str, object], None]) -> None:
    before = processes()
    assert sorted(before) == sorted(COMPONENTS)

    started = time.monotonic()
    up()
    record_property("second_up_s", time.monotonic() - started)

    assert processes() == before


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_killed_component_is_started_again_and_no_other(name: str) -> None:
    before = processes()
    assert before[name].kill(signal.SIGKILL)

    up()

    after = processes()
    assert {key for key in after if after[key] != before[key]} == {name}
    assert_whole()


def test_killed_pods_are_back() -> None:
    for pid in cgroups.processes(PATHS.machine_name, "kubepods"):
        os.kill(pid, signal.SIGKILL)

    up()

    assert_whole()


def test_a_loss_of_everything_is_repaired() -> None:
    kubectl("create", "configmap", "kept", "--from-literal=a=b")
    assert cgroups.kill(PATHS.machine_name)
    subprocess.run(["ip", "netns", "delete", PATHS.machine_name], check=True)
    assert tool("status").returncode == 1

    up()

    assert_whole()
    assert kubectl("get", "configmap", "kept", "-o=jsonpath={.data.a}") == "b"


def test_writes_are_audited_by_user_and_reads_are_not() -> None:
    kubectl("create", "configmap", "audited")
    kubectl("get", "configmap", "audited")

    def found() -> list[str]:
        events = map(json.loads, PATHS.audit_log.read_text().splitlines())
        return [
            event["verb"]
            for event in events
            if event["objectRef"].get("name") == "audited" and event["user"]["username"] == "admin"
        ]

    assert wait_until(lambda: bool(found()), 10)
    assert found() == ["create"]


def test_exec_hands_on_input_and_exit_code() -> None:
    done = tool("exec", "--", "sh", "-c", "cat; exit 7", stdin="through")

    assert (done.stdout, done.returncode) == ("through", 7)


def test_an_image_is_built_once_and_runs_in_a_pod(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(
        "FROM python:3.11-slim-bookworm\nARG WORD\nCOPY a.txt /\nRUN pip --version\n"
    )
    (tmp_path / "a.txt").write_text("from the image")
    build = ["image", "build", "-t", "selftest/a:1", "--build-arg", "WORD=1", str(tmp_path)]

    first, second = tool(*build), tool(*build)

    assert first.returncode == 0, first.stderr
    assert "up to date" not in first.stdout
    assert "docker.io/selftest/a:1 is up to date" in second.stdout
    script = (
        "import socket; print(open('/a.txt').read(),"
        "socket.gethostbyname('traefik.traefik.svc.cluster.local'));"
        "socket.create_connection(('10.96.0.1', 443), 5)"
    )
    kubectl(
        *("run", "a", "--image=selftest/a:1", "--image-pull-policy=Never", "--restart=Never"),
        *("--command", "--", "python", "-c", script),
    )
    kubectl("wait", "pod/a", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    assert kubectl("logs", "a").strip() == "from the image 10.96.0.80"


def test_a_rebuilt_image_replaces_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python:3.11-slim-bookworm\nCOPY a.txt /\n")
    images: list[set[str]] = []

    for word in ("one", "two"):
        (tmp_path / "a.txt").write_text(word)
        assert tool("image", "build", "-t", "selftest/b:1", str(tmp_path)).returncode == 0
        images.append(Containerd(PATHS).images())

    assert images[0] != images[1], "the second build must be another image"
    assert len(images[0]) == len(images[1])


def test_a_socket_opened_inside_works_outside() -> None:
    with connect(PATHS.network_namespace, ("10.96.0.80", 80), 5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.0 404"


def test_down_leaves_nothing() -> None:
    """The last one: the fixture's own `down` then finds nothing to do, which is no error."""
    assert tool("down", "--purge").returncode == 0

    assert not PATHS.root.exists()
    assert not PATHS.containerd_root.exists()
    assert not PATHS.network_namespace.exists()
    assert NAME not in Path("/proc/self/mountinfo").read_text()
    assert not any((root / PATHS.machine_name).exists() for root in cgroups.hierarchies())
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue  # it has just ended
        assert str(PATHS.root).encode() not in words, words
