"""SIGTERM under load: nobody who comes late is turned away, by whatever protocol."""

from __future__ import annotations

import json
import ssl
import threading
import time
from typing import TYPE_CHECKING

import grpc
import httpx
import numpy as np
import pytest

from modelyard_runtime.grpc_api import inference_pb2 as pb
from testkit import runtime_models as models
from testkit.runtime_processes import until
from testkit.runtime_serving import running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

BODY = json.dumps(models.request("x", "FP32", [1, 4], [1, 2, 3, 4]))
LAG_S = 5.0
"""How long after the signal the proxies still send requests here."""
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Not used: it spares each client the reading of all certificates there are."""
PATIENCE_S = 30.0
"""How long a client waits for an answer: nobody may be left without one, a busy machine may be slow."""
RATE_OF_ONE = 25.0
"""Requests a second of each of eight clients."""


class Load:
    """Clients that ask at a steady rate until they are told that the endpoint is gone."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.answered: list[float] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, ask: Callable[[], str]) -> None:
        """Begin to ask; an answer is empty when all is well."""
        thread = threading.Thread(target=self._run, args=(ask,), daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def clients(self) -> int:
        return len(self._threads)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, ask: Callable[[], str]) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                problem = ask()
            except (httpx.HTTPError, grpc.RpcError) as error:
                problem = repr(error)
            self.answered.append(time.monotonic())
            if problem:
                self.failures.append(problem)
            due += 1 / RATE_OF_ONE
            self._stop.wait(max(0.0, due - time.monotonic()))


def over_http(client: httpx.Client, url: str) -> str:
    answer = client.post(url, content=BODY)
    return "" if answer.status_code == 200 else f"{answer.status_code} {answer.text}"


def over_a_new_connection(url: str) -> str:
    with httpx.Client(timeout=PATIENCE_S, verify=NO_TLS) as client:
        return over_http(client, url)


def over_grpc(channel: grpc.Channel) -> str:
    ask = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelInferResponse.FromString,
    )
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    raw = np.ones(4, np.float32).tobytes()
    answer = ask(
        pb.ModelInferRequest(model_name="model", inputs=[tensor], raw_input_contents=[raw]),
        timeout=PATIENCE_S,
    )
    return "" if answer.model_name == "model" else str(answer)


def over_a_new_channel(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        return over_grpc(channel)


@pytest.mark.parametrize("http_workers", ["1", "2"])
def test_a_signal_under_load_fails_nobody(tmp_path: Path, http_workers: str) -> None:
    audit = tmp_path / "audit.jsonl"
    directives = tmp_path / "directives.json"
    directives.write_text(json.dumps({"audit": {"mode": "Metadata", "sink": str(audit)}}))
    with running(
        tmp_path,
        "serve",
        str(models.linear_onnx(tmp_path / "model.onnx")),
        threads="1",
        http_workers=http_workers,
        drain_timeout_s="30",
        directives_file=str(directives),
    ) as runtime:
        runtime.wait_for("Ready")
        url = f"{runtime.http}/v2/models/model/infer"
        load = Load()
        clients = [httpx.Client(timeout=PATIENCE_S) for _ in range(3)]
        channels = [grpc.insecure_channel(runtime.grpc) for _ in range(2)]
        for client in clients:
            load.add(lambda client=client: over_http(client, url))  # type: ignore[misc]
        for channel in channels:
            load.add(lambda channel=channel: over_grpc(channel))  # type: ignore[misc]
        for _ in range(2):
            load.add(lambda: over_a_new_connection(url))
        load.add(lambda: over_a_new_channel(runtime.grpc))
        until(lambda: len(load.answered) > 3 * load.clients)
        runtime.terminate()
        signalled = time.monotonic()
        runtime.wait_for("Draining")
        assert httpx.get(f"{runtime.http}/v2/health/ready").status_code == 503
        time.sleep(max(0.0, signalled + LAG_S - time.monotonic()))  # the lag itself
        load.stop()
        late = sum(moment > signalled + 1 for moment in load.answered)
        for each in (*clients, *channels):
            each.close()
        assert runtime.process.wait(60) == 0
        assert load.failures == []
        assert late > load.clients  # they did ask
        # Every answer has its record: the audit was written to the end.
        assert len(audit.read_text().splitlines()) == len(load.answered)
