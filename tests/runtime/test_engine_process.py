"""A model in a process of its own: what it does to itself never reaches the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from modelyard_runtime.artifacts import find_artifact
from modelyard_runtime.config import ModelConfig
from modelyard_runtime.engine.process_engine import ProcessModel
from modelyard_runtime.engine.process_protocol import ModelFailedError, Start
from modelyard_runtime.errors import InvalidInputError, NotReadyError, Reason, StartupError
from modelyard_runtime.handler import Context, Handler
from modelyard_runtime.own_process import hooks_beside
from testkit import runtime_models as models
from testkit.runtime_serving import running, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow  # each test starts processes

ROW = models.request("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])

HANDLER = """
import os, signal, time
import numpy as np
from modelyard_runtime.errors import InvalidInputError as InvalidInput

{top}

class Model:
    def predict(self, x, ctx):
        value = x.reshape(-1)[0]
        if value == 1:
            raise InvalidInput("one is not taken")
        if value == 2:
            raise ZeroDivisionError("two")
        if value == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        if value == 4:
            time.sleep(600)
        if value == 5:
            raise RuntimeError("CUDA error: device-side assert triggered")
        if value == 6:
            ctx.counter("seen_total", 2)
            ctx.counter("modelyard_mine")
        return x * 10 + np.float32((value == 7) * os.getpid())
"""
WAIT_S = 40.0


def until(true: Callable[[], Any]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


class Lab:
    """Starts models of this file's handler, and knows what must be left of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counted: list[tuple[str, float]] = []
        self.models: list[ProcessModel] = []

    def start(self, top: str = "", **more: Any) -> Start:
        """Write the handler and say what to load."""
        (self.folder / "handler.py").write_text(HANDLER.format(top=top))
        tensors = [{"name": "x", "dtype": "FP32", "shape": [-1, 1]}]
        config = ModelConfig.model_validate({"inputs": tensors, "threads": 1, **more})
        return Start(find_artifact(self.folder, model_format="Custom"), config)

    def model(self, top: str = "", hang_s: float = WAIT_S) -> ProcessModel:
        """Start and warm a model."""
        model = ProcessModel(
            self.start(top), hang_s=hang_s, count=lambda *pair: self.counted.append(pair)
        )
        self.models.append(model)
        model.warm(max_rows=4)
        return model


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    for model in lab.models:
        model.close()
    until(lambda: not any(alive(model.pid) for model in lab.models))
    until(lambda: not supervisors())


def alive(pid: int) -> bool:
    """Whether a process is there; a zombie is."""
    return Path(f"/proc/{pid}").exists()


def supervisors() -> list[threading.Thread]:
    """The threads that watch engines."""
    return [each for each in threading.enumerate() if each.name == "engine-supervisor"]


def descriptors() -> int:
    """Count the open files of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def ask(model: ProcessModel, value: float) -> float:
    """Ask for one row."""
    (answer,) = model.predict((np.full((1, 1), value, np.float32),))
    return float(answer[0, 0])


def test_it_answers_from_another_process_and_describes_itself(lab: Lab) -> None:
    model = lab.model()
    assert ask(model, 8) == 80
    assert ask(model, 7) == 70 + model.pid
    assert model.pid != os.getpid()
    assert (model.format, model.device, model.batched) == ("Custom", "cpu", True)
    assert [spec.name for spec in model.inputs] == ["x"]
    assert [spec.datatype for spec in model.outputs] == ["FP32"]
    large = np.random.default_rng(0).random((200_000, 1), np.float32)
    np.testing.assert_array_equal(model.predict((large,))[0], large * np.float32(10))


def test_errors_cross_and_the_process_stays(lab: Lab) -> None:
    model = lab.model()
    pid = model.pid
    with pytest.raises(InvalidInputError, match="one is not taken"):
        ask(model, 1)
    with pytest.raises(ModelFailedError, match="ZeroDivisionError: two"):
        ask(model, 2)
    with pytest.raises(ModelFailedError, match="modelyard_mine"):
        ask(model, 6)
    assert lab.counted == [("seen_total", 2.0)]
    assert ask(model, 8) == 80
    assert model.pid == pid


@pytest.mark.parametrize(
    ("value", "ending"), [(3, "SIGSEGV"), (5, "exit code 70")], ids=["segfault", "cuda"]
)
def test_an_input_that_kills_the_process_is_answered_and_the_next_one_too(
    lab: Lab, value: float, ending: str
) -> None:
    model = lab.model()
    pid = model.pid
    with pytest.raises(NotReadyError):
        ask(model, value)
    assert model.outage is not None
    until(lambda: ending in getattr(model.outage, "reason", ""))
    with pytest.raises(NotReadyError, match="restarted"):
        ask(model, 8)
    until(lambda: model.outage is None)
    assert ask(model, 8) == 80
    assert model.pid != pid
    assert not alive(pid)


def test_a_batch_that_hangs_is_given_up_and_its_process_ended(lab: Lab) -> None:
    model = lab.model(hang_s=0.5)
    pid = model.pid
    with pytest.raises(NotReadyError, match="hung"):
        ask(model, 4)
    until(lambda: model.outage is None)
    assert ask(model, 8) == 80
    assert not alive(pid)


def test_a_death_between_two_requests_is_noticed_by_itself(lab: Lab) -> None:
    model = lab.model()
    os.kill(model.pid, signal.SIGKILL)
    until(lambda: model.outage is not None)
    until(lambda: model.outage is None)
    assert ask(model, 8) == 80


def test_a_death_during_a_batch_is_noticed_at_once(lab: Lab) -> None:
    model = lab.model()
    problems: list[BaseException] = []

    def hang() -> None:
        try:
            ask(model, 4)
        except NotReadyError as error:
            problems.append(error)

    waiting = threading.Thread(target=hang)
    waiting.start()
    until(lambda: "S" in Path(f"/proc/{model.pid}/stat").read_text())
    os.kill(model.pid, signal.SIGKILL)
    waiting.join(10)
    assert len(problems) == 1


def test_a_model_that_no_longer_loads_is_given_up(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard_runtime.engine.process_engine._FIRST_DELAY_S", 0.01)
    monkeypatch.setattr("modelyard_runtime.engine.process_engine._MOST_RESTARTS", 2)
    model = lab.model()
    (lab.folder / "handler.py").write_text("rubbish(")
    os.kill(model.pid, signal.SIGKILL)
    until(lambda: model.outage is not None and model.outage.final)
    assert model.outage is not None
    assert model.outage.unavailable
    assert "2 attempts" in model.outage.reason
    assert "handler.py" in model.outage.reason
    with pytest.raises(NotReadyError, match="did not come back"):
        ask(model, 8)


def test_nothing_is_left_of_it(lab: Lab) -> None:
    before = descriptors()
    model = lab.model()
    ask(model, 8)
    os.kill(model.pid, signal.SIGKILL)
    until(lambda: model.outage is not None)
    until(lambda: model.outage is None)
    ask(model, 8)
    model.close()
    until(lambda: not alive(model.pid))
    until(lambda: not supervisors())
    assert descriptors() == before
    with pytest.raises(NotReadyError, match="unloaded"):
        ask(model, 8)


def test_closing_ends_a_process_that_is_being_started_again(lab: Lab) -> None:
    model = lab.model("import time; time.sleep(0.2)")
    first = model.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: model.pid != first)
    model.close()
    until(lambda: not alive(model.pid))
    until(lambda: not supervisors())


@pytest.mark.parametrize(
    ("top", "reason", "words"),
    [
        ("raise ValueError('no')", Reason.INVALID_HANDLER, "no"),
        ("os._exit(9)", Reason.INVALID_ARTIFACT, "exit code 9"),
    ],
)
def test_a_model_that_cannot_load_says_why(lab: Lab, top: str, reason: Reason, words: str) -> None:
    before = descriptors()
    with pytest.raises(StartupError, match=words) as caught:
        lab.model(top)
    assert caught.value.reason == reason
    assert descriptors() == before


PARENT = """
import sys, time, threading
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_engine_process import Lab
import numpy as np
lab = Lab(Path(sys.argv[1]))
model = lab.model()
print(model.pid, flush=True)
threading.Thread(target=model.predict, args=((np.full((1, 1), 4, np.float32),),)).start()
time.sleep(600)
"""


def test_it_dies_with_the_server_even_while_it_computes(tmp_path: Path) -> None:
    here = Path(__file__).parent
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), str(here)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(here.parent)])},
    )
    assert parent.stdout is not None
    lines = iter(parent.stdout.readline, "")
    pid = next(int(line) for line in lines if line.strip().isdigit())
    parent.kill()
    parent.wait()
    until(lambda: not alive(pid))
    parent.stdout.close()


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


def children(pid: int) -> list[int]:
    """List the processes that a process has started, by number."""
    return [
        int(word)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for word in (task / "children").read_text().split()
    ]


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Load:
    """Four clients that ask without a pause, and check every answer."""

    def __init__(self, url: str) -> None:
        self.codes: list[int] = []
        self.longest_s = 0.0
        self.problems: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, code: int, count: int = 1) -> None:
        """Wait until so many requests have been answered so, from now on."""
        before = self.codes.count(code)
        until(lambda: self.codes.count(code) >= before + count)

    def stop(self) -> None:
        """Let the clients end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=20) as client:
            while not self._stop.is_set():
                begun = time.monotonic()
                try:
                    answer = client.post(self._url, json=ROW)
                except httpx.HTTPError as error:
                    self.problems.append(repr(error))
                    return
                self.longest_s = max(self.longest_s, time.monotonic() - begun)
                self.codes.append(answer.status_code)
                if answer.status_code == 200:
                    data = answer.json()["outputs"][0]["data"]
                    if not np.allclose(data, np.array([1, 2, 3, 4]) @ models.WEIGHTS):
                        self.problems.append(answer.text)


def test_kill_under_load_costs_only_what_was_in_flight(tmp_path: Path) -> None:
    """Every request is answered, 200 or 503, also while the engine is away; nothing leaks."""
    path = models.linear_onnx(tmp_path / "m.onnx")
    with running(tmp_path, "serve", str(path), threads="1", engine="Process") as runtime:
        runtime.wait_for("Ready")
        pid = runtime.process.pid
        most: int | None = None
        for _ in range(2):
            load = Load(f"{runtime.http}/v2/models/m/infer")
            load.wait_for(200, 50)
            (engine,) = children(pid)
            os.kill(engine, signal.SIGKILL)
            load.wait_for(503)
            load.wait_for(200, 50)
            assert not alive(engine)  # no zombie either
            assert httpx.get(f"{runtime.http}/v2/health/ready").status_code == 200
            load.stop()
            assert load.problems == []
            assert set(load.codes) == {200, 503}
            assert load.longest_s < 10
            # The server may still be closing the clients' connections.
            until(lambda: most is None or open_files(pid) <= most)  # noqa: B023 - called at once
            most = open_files(pid)
        (engine,) = children(pid)
        runtime.process.send_signal(signal.SIGINT)
        assert runtime.process.wait(20) == 0
        until(lambda: not alive(engine))
