"""HTTP workers as processes: load, drains, and deaths."""

from __future__ import annotations

import os
import signal
import ssl
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from tritonclient import http

from testkit import runtime_models as models
from testkit.runtime_certificates import write_certificate
from testkit.runtime_serving import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testkit.runtime_serving import Running

pytestmark = pytest.mark.slow  # each test starts processes

WAIT_S = 40.0
ROW = models.request("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])


def until(true: Callable[[], Any]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process is there; a zombie is."""
    return Path(f"/proc/{pid}").exists()


def workers(pid: int) -> list[int]:
    """List the numbers of a server's workers."""
    children = [
        int(word)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for word in (task / "children").read_text().split()
    ]
    return [each for each in children if b".workers" in Path(f"/proc/{each}/cmdline").read_bytes()]


@contextmanager
def two_workers(folder: Path, **more: str) -> Iterator[Running]:
    """Run a server with two workers that both take connections."""
    path = models.linear_onnx(folder / "m.onnx")
    with running(folder, "serve", str(path), threads="1", http_workers="2", **more) as runtime:
        runtime.wait_for("Ready")
        until(lambda: runtime.log.read_text().count("http worker listens") == 2)
        yield runtime


def counted(runtime: Running) -> dict[str, float]:
    """Requests by code, as the metrics tell."""
    found: dict[str, float] = {}
    for line in httpx.get(f"{runtime.metrics}/metrics").text.splitlines():
        if line.startswith("modelyard_requests_total{"):
            labels, _, value = line.rpartition(" ")
            code = labels.partition('code="')[2].partition('"')[0]
            found[code] = found.get(code, 0) + float(value)
    return found


class Load:
    """Clients that ask without a pause and check every answer against its own question."""

    def __init__(self, runtime: Running, clients: int = 4, *, keep: bool = True) -> None:
        self.codes: list[int] = []
        self.broken: list[str] = []
        self.wrong: list[str] = []
        self._url = f"{runtime.http}/v2/models/m/infer"
        self._keep = keep
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        """Wait until so many further requests have been answered."""
        before = len(self.codes)
        until(lambda: len(self.codes) >= before + count)

    def stop(self) -> None:
        """Let the clients end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        client = httpx.Client(timeout=20)
        while not self._stop.is_set():
            x = random.random((2, 4), np.float32)
            body = models.request("x", "FP32", [2, 4], x.reshape(-1).tolist())
            try:
                answer = client.post(self._url, json=body)
            except httpx.HTTPError as error:
                self.broken.append(repr(error))
                continue
            self.codes.append(answer.status_code)
            if answer.status_code == 200:
                got = np.reshape(answer.json()["outputs"][0]["data"], (2, 3))
                if not np.allclose(got, x @ models.WEIGHTS, rtol=1e-4):
                    self.wrong.append(answer.text)
            if not self._keep:
                client.close()
                client = httpx.Client(timeout=20)
        client.close()


def test_many_clients_get_their_own_answers_and_every_request_is_counted(tmp_path: Path) -> None:
    with two_workers(tmp_path) as runtime:
        load = Load(runtime, clients=6, keep=False)
        load.wait_for(150)
        load.stop()
        assert load.broken == load.wrong == []
        assert set(load.codes) == {200}
        bad = httpx.post(f"{runtime.http}/v2/models/m/infer", json={"inputs": []})
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
        load, newcomers = Load(runtime), Load(runtime, clients=1, keep=False)
        load.wait_for(50)
        runtime.terminate()
        runtime.wait_for("Draining")
        load.wait_for(50)
        newcomers.wait_for(3)
        last = httpx.post(f"{runtime.http}/v2/models/m/infer", json=ROW)
        assert last.status_code == 200
        assert last.headers["connection"] == "close"
        assert httpx.get(f"{runtime.http}/v2/health/ready").status_code == 503
        load.stop()
        newcomers.stop()
        for each in (load, newcomers):
            assert each.broken == each.wrong == []
            assert set(each.codes) == {200}
        assert runtime.process.wait(20) == 0
        until(lambda: not any(alive(pid) for pid in pids))


def test_a_killed_worker_breaks_its_own_connections_only_and_comes_back(tmp_path: Path) -> None:
    with two_workers(tmp_path) as runtime:
        pid = runtime.process.pid
        load = Load(runtime, clients=6)
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
            assert second.process.wait(40) == 1
            assert (
                f"MODELYARD_HTTP_PORT: cannot listen on 127.0.0.1:{port}"
                in (second.last_word()["message"])
            )
