"""The load generator of Triton's makers measures ours as it measures Triton."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from testkit.perf_analyzer import perf_analyzer
from testkit.runtime_serving import running
from testkit.triton_client import write_models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testkit.runtime_serving import Running

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(180)]

WINDOWS: Final = (
    *("--concurrency-range", "2", "--measurement-mode", "count_windows"),
    # Enough to see it work: what it measures is not judged here.
    *("--measurement-request-count", "50", "-s", "999", "-p", "200", "--input-data", "zero"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("perf")
    models = write_models(folder / "models")
    with running(folder, "serve", "--models", str(models), allow_pickle="true") as process:
        process.wait_for("Ready")
        yield process


@pytest.mark.parametrize(
    ("protocol", "arguments"),
    [
        ("http", ("-m", "two")),
        ("http", ("-m", "identity-fp32", "--shape", "x:16", "-b", "4")),
        ("grpc", ("-m", "two")),
        ("grpc", ("-m", "identity-fp32", "--shape", "x:16", "--streaming", "--async")),
        ("grpc", ("-m", "parts", "--shape", "x:3", "--streaming", "--async")),
    ],
)
def test_it_measures(server: Running, protocol: str, arguments: tuple[str, ...]) -> None:
    address = server.http.removeprefix("http://") if protocol == "http" else server.grpc
    done = subprocess.run(
        [*perf_analyzer(), "-i", protocol, "-u", address, *arguments, *WINDOWS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    asked = figure(r"^    Throughput: ([\d.]+) infer/sec", told)
    assert asked > 0
    # What the server says of itself, by its statistics.
    assert figure(r"Successful request count: (\d+)", told) >= 50
    if "parts" in arguments:
        answered = figure(r"Response Throughput: ([\d.]+)", told)
        assert answered == pytest.approx(3 * asked, rel=0.05), "three parts for each request"


def figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])
