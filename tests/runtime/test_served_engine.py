"""A server whose engine is a process of its own: what callers see while it is away."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from modelyard_runtime.config import ModelConfig
from modelyard_runtime.engine.process_engine import ProcessModel
from modelyard_runtime.errors import StartupError
from modelyard_runtime.handler import Context, Handler
from modelyard_runtime.own_process import hooks_beside
from testkit import runtime_models as models
from testkit.runtime_engines import supervisors
from testkit.runtime_load import Load
from testkit.runtime_processes import alive, children, until
from testkit.runtime_serving import running, serving

pytestmark = pytest.mark.slow  # each test starts processes

ROW = models.request("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])


def test_hooks_that_are_methods_of_the_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "handler.py"
    path.write_text(
        "class M:\n    def predict(self, x): ...\n    def preprocess(self, request): ...\n"
    )
    config = ModelConfig()
    context = Context(tmp_path, "cpu", config, lambda *_: None)
    with pytest.raises(StartupError, match="preprocess of M would run in the server"):
        hooks_beside(Handler(path), config, context, is_model=True)
    path.write_text("def preprocess(request): ...\ndef predict(x): ...\n")
    assert set(hooks_beside(Handler(path), config, context, is_model=True)) == {"preprocess"}


async def test_the_service_is_unready_while_its_engine_is_away(tmp_path: Path) -> None:
    path = models.linear_onnx(tmp_path / "m.onnx")
    async with serving(path, engine="Process") as (client, service):
        (served,) = service.repository.served
        model = served.model
        assert isinstance(model, ProcessModel)
        assert (await client.post("/v2/models/m/infer", json=ROW)).status_code == 200
        os.kill(model.pid, signal.SIGKILL)
        until(lambda: model.outage is not None)
        assert (await client.get("/v2/health/ready")).status_code == 503
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/v2/models/m/ready")).status_code == 503
        answer = await client.post("/v2/models/m/infer", json=ROW)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert "retry-after" in answer.headers
        (row,) = service.repository.index()
        assert row["state"] == "LOADING"
        assert "SIGKILL" in row["reason"]
        assert service.repository.index(ready_only=True) == []
        until(lambda: model.outage is None)
        assert (await client.get("/v2/health/ready")).status_code == 200
        assert (await client.post("/v2/models/m/infer", json=ROW)).status_code == 200
        assert service.repository.index()[0]["state"] == "READY"
    until(lambda: not supervisors())
    assert not alive(model.pid)


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_kill_under_load_costs_only_what_was_in_flight(tmp_path: Path) -> None:
    """Every request is answered, 200 or 503, also while the engine is away; nothing leaks."""
    path = models.linear_onnx(tmp_path / "m.onnx")
    with running(tmp_path, "serve", str(path), threads="1", engine="Process") as runtime:
        runtime.wait_for("Ready")
        pid = runtime.process.pid
        most: int | None = None
        for _ in range(2):
            load = Load(f"{runtime.http}/v2/models/m/infer")
            load.wait_for(50)
            (engine,) = children(pid)
            os.kill(engine, signal.SIGKILL)
            load.wait_for(1, 503)
            load.wait_for(50)
            assert not alive(engine)  # no zombie either
            assert httpx.get(f"{runtime.http}/v2/health/ready").status_code == 200
            load.stop()
            assert load.broken == load.wrong == []
            assert set(load.codes) == {200, 503}
            # The server may still be closing the clients' connections.
            until(lambda: most is None or open_files(pid) <= most)  # noqa: B023 - called at once
            most = open_files(pid)
        (engine,) = children(pid)
        runtime.process.send_signal(signal.SIGINT)
        assert runtime.process.wait(60) == 0
        until(lambda: not alive(engine))
