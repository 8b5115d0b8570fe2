"""The runtime as a process: real sockets, real signals, real clients."""

from __future__ import annotations

import json
import signal
import socket
import time
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from tritonclient import http

from modelyard_runtime.__main__ import main
from modelyard_runtime.web_server import drain_grace_s
from testkit import runtime_models as models
from testkit.runtime_load import Load
from testkit.runtime_processes import until
from testkit.runtime_serving import running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # each test starts a process

BODY = models.request("x", "FP32", [1, 4], [1, 2, 3, 4])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "fraud" / "1"
    folder.mkdir(parents=True)
    models.linear_onnx(folder / "model.onnx")
    return tmp_path / "models"


def test_an_official_client_works_unmodified(repository: Path, tmp_path: Path) -> None:
    with running(
        tmp_path, "serve", model_name="fraud", model_repository=str(repository), threads="1"
    ) as runtime:
        runtime.wait_for("Ready")
        client = http.InferenceServerClient(runtime.http.removeprefix("http://"))
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("fraud")
        assert client.get_server_metadata()["name"] == "modelyard"
        assert client.get_model_metadata("fraud", "1")["inputs"][0]["name"] == "x"
        x = np.random.default_rng(0).random((5, 4), np.float32)
        tensor = http.InferInput("x", [5, 4], "FP32")
        tensor.set_data_from_numpy(x, binary_data=False)
        wanted = [http.InferRequestedOutput("y", binary_data=False)]
        result = client.infer("fraud", [tensor], outputs=wanted, request_id="7")
        np.testing.assert_allclose(result.as_numpy("y"), x @ models.WEIGHTS, rtol=1e-5)
        assert result.get_response()["id"] == "7"
        with pytest.raises(Exception, match="there is no model"):
            client.infer("other", [tensor])
        client.close()


def test_status_and_metrics_are_served_beside_the_model(repository: Path, tmp_path: Path) -> None:
    directives = tmp_path / "directives.json"
    directives.write_text("{}")
    with running(
        tmp_path,
        "serve",
        model_name="fraud",
        model_repository=str(repository),
        threads="1",
        model_version="8",
        revision="fraud-91ab44d0",
        directives_file=str(directives),
    ) as runtime:
        runtime.wait_for("Ready")
        status = runtime.status()
        (model,) = status.pop("models")
        assert status == {
            "state": "Ready",
            "model": "fraud",
            "version": "8",
            "revision": "fraud-91ab44d0",
            "directivesHash": "44136fa355b3678a",
            "download": None,
            "failure": None,
            "verification": None,
            "keys": {"principals": 0, "jwks": False},
        }
        assert (model["name"], model["version"], model["format"]) == ("fraud", "1", "ONNX")
        httpx.post(f"{runtime.http}/v2/models/fraud/infer", json=BODY)
        text = httpx.get(f"{runtime.metrics}/metrics").text
        labels = 'model="fraud",version="8",revision="fraud-91ab44d0"'
        wanted = f'modelyard_requests_total{{code="200",{labels},protocol="rest"}} 1.0'
        lines = {
            frozenset(line.strip("}").replace("{", ",").split(","))
            for line in text.replace("} ", ",").splitlines()
        }
        assert frozenset(wanted.replace("} ", ",").replace("{", ",").split(",")) in lines
        logs = [json.loads(line) for line in runtime.log.read_text().splitlines()]
        assert any(line["event"] == "model ready" for line in logs)


def test_a_drain_answers_everybody(repository: Path, tmp_path: Path) -> None:
    """Requests of clients that learn late of the shutdown, on old and on new connections."""
    with running(
        tmp_path,
        "serve",
        model_name="fraud",
        model_repository=str(repository),
        threads="1",
        drain_timeout_s="6",
    ) as runtime:
        runtime.wait_for("Ready")
        url = f"{runtime.http}/v2/models/fraud/infer"
        clients = Load(url, clients=2), Load(url, clients=1, keep=False)
        runtime.terminate()
        started = time.monotonic()
        runtime.wait_for("Draining")
        for load in clients:
            load.wait_for(1)
        until(lambda: any(load.told_to_leave for load in clients))
        assert httpx.get(f"{runtime.http}/v2/health/ready").status_code == 503
        assert httpx.get(f"{runtime.http}/v2/health/live").status_code == 200
        for load in clients:
            load.stop()  # the endpoint is now known to be gone
            assert load.broken == load.wrong == []
            assert set(load.codes) == {200}
        assert runtime.process.wait(60) == 0
        assert time.monotonic() - started >= drain_grace_s(6) - 0.2


def test_a_second_sigterm_ends_at_once(repository: Path, tmp_path: Path) -> None:
    with running(
        tmp_path, "serve", model_name="fraud", model_repository=str(repository), threads="1"
    ) as runtime:
        runtime.wait_for("Ready")
        runtime.terminate()
        runtime.wait_for("Draining")
        runtime.terminate()
        assert runtime.process.wait(drain_grace_s(45) - 1) == 0


def test_ctrl_c_needs_no_grace(repository: Path, tmp_path: Path) -> None:
    with running(
        tmp_path, "serve", str(repository / "fraud" / "1" / "model.onnx"), threads="1"
    ) as runtime:
        runtime.wait_for("Ready")
        assert runtime.status()["model"] == "model"
        runtime.process.send_signal(signal.SIGINT)
        assert runtime.process.wait(drain_grace_s(45) - 1) == 0


def test_the_grace_is_a_third_of_a_short_drain() -> None:
    assert drain_grace_s(45) == 10
    assert drain_grace_s(6) == 2
    assert drain_grace_s(0) == 0


def test_a_model_that_cannot_load_leaves_a_reason(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"rubbish")
    with running(tmp_path, "serve", str(tmp_path / "m.onnx"), threads="1") as runtime:
        assert runtime.process.wait(100) == 1
        word = runtime.last_word()
        assert word["reason"] == "InvalidArtifact"
        assert set(word) == {"reason", "message", "hint", "retryable"}
        assert "m.onnx" in word["message"]


@pytest.mark.parametrize("broken", ["handler", "weights"])
def test_what_cannot_be_served_ends_with_its_reason(tmp_path: Path, broken: str) -> None:
    """A handler that raises at import, and a model whose answers are not finite."""
    folder = tmp_path / "model"
    folder.mkdir()
    if broken == "handler":
        models.linear_onnx(folder / "model.onnx")
        (folder / "handler.py").write_text("import json\n\njson.loads('no')\n")
        expected = "InvalidHandler", "handler.py: line 3: JSONDecodeError"
    else:
        models.nan_onnx(folder / "model.onnx")
        expected = "WarmupFailed", "NaN or infinity in output 'y'"
    with running(tmp_path, "serve", str(folder)) as runtime:
        assert runtime.process.wait(100) == 1
        word = runtime.last_word()
        assert word["reason"] == expected[0]
        assert expected[1] in word["message"]
        assert expected[1] in runtime.log.read_text()


def test_a_slow_start_ends_with_its_own_reason(repository: Path, tmp_path: Path) -> None:
    with running(
        tmp_path,
        "serve",
        model_name="fraud",
        model_repository=str(repository),
        threads="1",
        startup_timeout_s="0.001",
    ) as runtime:
        assert runtime.process.wait(100) == 1
        assert runtime.last_word()["reason"] == "StartupTimeout"


def test_invalid_settings_are_named(tmp_path: Path) -> None:
    with running(
        tmp_path, "serve", model_name="fraud", max_batch_size="many", device="TPU"
    ) as runtime:
        assert runtime.process.wait(100) == 2
        word = runtime.last_word()
        assert word["reason"] == "InvalidSettings"
        for name in ("MODELYARD_MAX_BATCH_SIZE", "MODELYARD_DEVICE"):
            assert name in word["message"]
        assert len(runtime.log.read_text().splitlines()) == 1


def test_a_request_that_is_no_http_gets_the_common_shape(repository: Path, tmp_path: Path) -> None:
    with running(
        tmp_path, "serve", model_name="fraud", model_repository=str(repository), threads="1"
    ) as runtime:
        runtime.wait_for("Ready")
        port = int(runtime.http.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            raw.sendall(b"rubbish\r\n\r\n")
            head, _, body = raw.makefile("rb").read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert set(json.loads(body)) == {"error", "code", "request_id"}


def test_a_caller_that_hangs_up_leaves_nothing_behind(repository: Path, tmp_path: Path) -> None:
    with running(
        tmp_path,
        "serve",
        model_name="fraud",
        model_repository=str(repository),
        threads="1",
        max_delay_ms="30000",
        request_timeout_s="60",
    ) as runtime:
        runtime.wait_for("Ready")
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{runtime.http}/v2/models/fraud/infer", json=BODY, timeout=0.5)
        end = time.monotonic() + 10
        text = ""
        while 'code="499"' not in text and time.monotonic() < end:
            text = httpx.get(f"{runtime.metrics}/metrics").text
        assert 'code="499"' in text
        (inflight,) = [x for x in text.splitlines() if x.startswith("modelyard_inflight_requests{")]
        (queued,) = [x for x in text.splitlines() if x.startswith("modelyard_queue_requests{")]
        assert inflight.endswith(" 0.0")
        assert queued.endswith(" 0.0")


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--help"], ("serve ./model.pt2", "MODELYARD_ALLOW_PICKLE")),
        (["serve", "--help"], ("curl localhost:8080", "SIGTERM")),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        text = capsys.readouterr().out
        for word in words:
            assert word in text
