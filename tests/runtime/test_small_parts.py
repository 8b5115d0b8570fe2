"""Directives, lifecycle, compute threads, termination messages."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import modelyard_runtime
from modelyard_runtime.api.problems import STATUS
from modelyard_runtime.compute import compute_threads, quota_cpus
from modelyard_runtime.directives import DirectivesFile
from modelyard_runtime.errors import Reason, RequestError, StartupError
from modelyard_runtime.lifecycle import Lifecycle, State
from modelyard_runtime.metrics import RuntimeMetrics
from modelyard_runtime.settings import RuntimeSettings
from modelyard_runtime.termination import write_termination_message


@pytest.fixture
def metrics() -> RuntimeMetrics:
    return RuntimeMetrics(RuntimeSettings(model_name="m"))


def reloads(metrics: RuntimeMetrics, result: str) -> float | None:
    labels = {"model": "m", "version": "1", "revision": "", "result": result}
    return metrics.registry.get_sample_value("modelyard_directives_reloads_total", labels)


def test_directives_survive_a_symlink_swap(tmp_path: Path, metrics: RuntimeMetrics) -> None:
    """What the kubelet does: a new folder, then the link to it replaced."""
    for name, limit in (("one", 10), ("two", 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "d.json").write_text(json.dumps({"maxBodyBytes": limit, "later": 1}))
    link = tmp_path / "..data"
    link.symlink_to("one")
    file = DirectivesFile(link / "d.json", metrics)
    assert file.current.max_body_bytes == 32 * 2**20
    file.poll()
    assert file.current.max_body_bytes == 10
    swap = tmp_path / "..tmp"
    swap.symlink_to("two")
    swap.rename(link)
    file.poll()
    file.poll()
    assert file.current.max_body_bytes == 20
    content = (tmp_path / "two" / "d.json").read_bytes()
    assert file.hash == hashlib.sha256(content).hexdigest()[:16]
    assert reloads(metrics, "applied") == 2


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "[]",
        "{",
        '{"maxBodyBytes": "1"}',
        '{"maxBodyBytes": 0}',
        '{"pathPrefix": "x"}',
        '{"pathPrefix": "/x/"}',
    ],
)
def test_bad_directives_leave_the_last_good_ones(
    tmp_path: Path, metrics: RuntimeMetrics, bad: str
) -> None:
    path = tmp_path / "d.json"
    file = DirectivesFile(path, metrics)
    file.poll()  # not there yet
    path.write_text('{"pathPrefix": "/a"}')
    file.poll()
    good = file.hash
    path.write_text(bad)
    file.poll()
    file.poll()
    assert (file.current.path_prefix, file.hash) == ("/a", good)
    assert reloads(metrics, "rejected") == 1
    path.unlink()
    file.poll()
    assert file.current.path_prefix == "/a"


def test_states_follow_each_other_in_one_direction() -> None:
    lifecycle = Lifecycle()
    assert not lifecycle.advance(State.READY)
    for state in (State.LOADING, State.WARMING, State.READY, State.DRAINING):
        assert lifecycle.advance(state)
    assert not lifecycle.advance(State.READY)
    failure = StartupError(Reason.INVALID_ARTIFACT, "x")
    lifecycle.fail(failure)
    assert (lifecycle.state, lifecycle.failure) == (State.DRAINING, None)
    lifecycle = Lifecycle()
    lifecycle.fail(failure)
    assert (lifecycle.state, lifecycle.failure) == (State.FAILED, failure)


@pytest.mark.parametrize(
    ("files", "quota", "threads"),
    [
        ({"cpu.max": "400000 100000"}, 4.0, 3),
        ({"cpu.max": "50000 100000"}, 0.5, 1),
        ({"cpu.max": "max 100000"}, None, 7),
        ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, 7),
        ({}, None, 7),
    ],
)
def test_threads_come_from_the_quota(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    quota: float | None,
    threads: int,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert quota_cpus(tmp_path) == quota
    assert compute_threads(None, root=tmp_path) == threads
    assert compute_threads(5, root=tmp_path) == 5


def test_a_termination_message_is_never_cut_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("older and longer than the new one" * 999)
    failure = StartupError(Reason.INVALID_ARTIFACT, "ü" * 9999, hint="h", retryable=True)
    write_termination_message(path, failure.as_document())
    assert path.stat().st_size <= 4096
    word = json.loads(path.read_text())
    assert (word["reason"], word["hint"], word["retryable"]) == ("InvalidArtifact", "h", True)


def test_a_missing_termination_log_is_not_made(tmp_path: Path) -> None:
    write_termination_message(tmp_path / "log", {})
    assert not (tmp_path / "log").exists()


def test_every_request_error_has_a_status() -> None:
    kinds = set(RequestError.__subclasses__())
    assert set(STATUS) == kinds | {kind for each in kinds for kind in each.__subclasses__()}
    assert len({error.code for error in STATUS}) == len(STATUS)


_WRITERS = ("huggingface_engine", "mlflow_engine", "torch_aoti", "torch_export")


def test_only_the_entry_points_read_the_environment() -> None:
    package = Path(modelyard_runtime.__file__).parent
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"os\.(environ|getenv)", path.read_text())
    }
    # These write what libraries read, and read nothing but what they put back.
    writers = {"compute.py", *(f"engine/{name}.py" for name in _WRITERS)}
    assert readers == {"__main__.py", "fetch/__main__.py", *writers}
