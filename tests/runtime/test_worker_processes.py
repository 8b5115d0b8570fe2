"""HTTP workers as processes: load, drains, and deaths."""

from __future__ import annotations

import os
import signal
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from tritonclient import http

from testkit import runtime_models as models
from testkit.runtime_certificates import write_certificate
from testkit.runtime_load import Load
from testkit.runtime_processes import alive, children, command, until
from testkit.runtime_serving import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testkit.runtime_serving import Running

pytestmark = pytest.mark.slow  # each test starts processes

ROW = models.request("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])


def workers(pid: int) -> list[int]:
    """List the numbers of a server's workers."""
    return [each for each in children(pid) if b".workers" in command(each)]


@contextmanager
def two_workers(folder: Path, **more: str) -> Iterator[Running]:
    """Run a server with two workers that both take connections."""
    path = models.linear_onnx(folder / "m.onnx")
    with running(folder, "serve", str(path), threads="1", http_workers="2", **more) as runtime:
        runtime.wait_for("Ready")
        until(lambda: runtime.log.read_text().count("http worker listens") == 2)
        yield runtime


def url_of(runtime: Running) -> str:
    """Where its model is asked."""
    return f"{runtime.http}/v2/models/m/infer"


def counted(runtime: Running) -> dict[str, float]:
    """Requests by code, as the metrics tell."""
    found: dict[str, float] = {}
    for line in httpx.get(f"{runtime.metrics}/metrics").text.splitlines():
        if line.startswith("modelyard_requests_total{"):
            labels, _, value = line.rpartition(" ")
            code = labels.partition('code="')[2].partition('"')[0]
            found[code] = found.get(code, 0) + float(value)
    return found


def test_many_clients_get_their_own_answers_and_every_request_is_counted(tmp_path: Path) -> None:
    with two_workers(tmp_path) as runtime:
        load = Load(url_of(runtime), clients=6, keep=False)
        load.wait_for(150)
        load.stop()
        assert load.broken == load.wrong == []
        assert set(load.codes) == {200}
        bad = httpx.post(url_of(runtime), json={"inputs": []})
        assert bad.status_code == 400
        until(lambda: counted(runtime) == {"200": len(load.codes), "400": 1})
        client = http.InferenceServerClient(runtime.http.removeprefix("http://"))
        x = np.random.default_rng(0).random((40, 4), np.float32)
        tensor = http.InferInput("x", [40, 4], "FP32")
        tensor.set_data_from_numpy(x)  # binary, both ways; more rows than a batch has
        result = client.infer("m", [tensor], request_compression_algorithm="gzip")
        np.testing.assert_allclose(result.as_numpy("y"), x @ models.WEIGHTS, rtol=1e-4)
        client.close()


def test_a_drain_answers_everybody_and_ends_every_process(tmp_path: Path) -> None:
    with two_workers(tmp_path, drain_timeout_s="9") as runtime:
        pids = workers(runtime.process.pid)
        assert len(pids) == 2
        load, newcomers = Load(url_of(runtime)), Load(url_of(runtime), clients=1, keep=False)
        load.wait_for(50)
        runtime.terminate()
        runtime.wait_for("Draining")
        load.wait_for(50)
        newcomers.wait_for(3)
        last = httpx.post(url_of(runtime), json=ROW)
        assert last.status_code == 200
        assert last.headers["connection"] == "close"
        assert httpx.get(f"{runtime.http}/v2/health/ready").status_code == 503
        load.stop()
        newcomers.stop()
        for each in (load, newcomers):
            assert each.broken == each.wrong == []
            assert set(each.codes) == {200}
        assert runtime.process.wait(60) == 0
        until(lambda: not any(alive(pid) for pid in pids))


def test_a_killed_worker_breaks_its_own_connections_only_and_comes_back(tmp_path: Path) -> None:
    with two_workers(tmp_path) as runtime:
        pid = runtime.process.pid
        load = Load(url_of(runtime), clients=6)
        load.wait_for(50)
        killed, kept = workers(pid)
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(workers(pid)) == 2 and killed not in workers(pid))
        load.wait_for(50)
        until(lambda: runtime.log.read_text().count("http worker listens") == 3)
        load.stop()
        assert not alive(killed)
        assert alive(kept)
        assert load.wrong == []
        assert set(load.codes) == {200}
        assert len(load.broken) <= 6 + 1  # each connection once, and one on its way into the socket
        assert httpx.get(f"{runtime.http}/v2/health/ready").status_code == 200
        assert runtime.status()["state"] == "Ready"


def test_workers_end_with_the_server(tmp_path: Path) -> None:
    with two_workers(tmp_path) as runtime:
        pids = workers(runtime.process.pid)
        runtime.process.kill()
        runtime.process.wait()
        until(lambda: not any(alive(pid) for pid in pids))


def test_workers_speak_tls(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path, "one")
    with two_workers(tmp_path, tls_cert_file=str(cert), tls_key_file=str(key)) as runtime:
        context = ssl.create_default_context(cadata=cert.read_text())
        url = runtime.http.replace("http://", "https://")
        for _ in range(4):  # connections of their own: both workers get some
            answer = httpx.post(f"{url}/v2/models/m/infer", json=ROW, verify=context)
            assert answer.status_code == 200


def test_a_port_that_another_program_has_is_named(tmp_path: Path) -> None:
    with two_workers(tmp_path) as first:
        port = first.http.rpartition(":")[2]
        other = tmp_path / "other"
        other.mkdir()
        path = models.linear_onnx(other / "m.onnx")
        with running(other, "serve", str(path), "--port", port, http_workers="2") as second:
            assert second.process.wait(100) == 1
            assert (
                f"MODELYARD_HTTP_PORT: cannot listen on 127.0.0.1:{port}"
                in (second.last_word()["message"])
            )
