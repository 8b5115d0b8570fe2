"""A model in a process of its own: what it does to itself never reaches the server."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from modelyard_runtime.engine.process_protocol import ModelFailedError
from modelyard_runtime.errors import InvalidInputError, NotReadyError, Reason, StartupError
from testkit.runtime_engines import Lab, supervisors
from testkit.runtime_processes import alive, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelyard_runtime.engine.process_engine import ProcessModel

pytestmark = pytest.mark.slow  # each test starts processes


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    for model in lab.models:
        model.close()
    until(lambda: not any(alive(model.pid) for model in lab.models))
    until(lambda: not supervisors())


def descriptors() -> int:
    """Count the open files of this process, without those that earlier tests let go of."""
    gc.collect()
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
    model = lab.model()
    pid, patience_s = model.pid, model._hang_s
    model._hang_s = 0.5  # for this batch: on a busy machine a good one may take as long
    with pytest.raises(NotReadyError, match="hung"):
        ask(model, 4)
    model._hang_s = patience_s
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
    again = lab.folder / "again"
    model = lab.model(f"if os.path.exists({str(again)!r}): time.sleep(600)")
    first = model.pid
    again.touch()
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
import sys, threading, time
from pathlib import Path
import numpy as np
from testkit.runtime_engines import Lab
lab = Lab(Path(sys.argv[1]))
model = lab.model()
print(model.pid, flush=True)
threading.Thread(target=model.predict, args=((np.full((1, 1), 4, np.float32),),)).start()
time.sleep(600)
"""


def test_it_dies_with_the_server_even_while_it_computes(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    lines = iter(parent.stdout.readline, "")
    pid = next(int(line) for line in lines if line.strip().isdigit())
    parent.kill()
    parent.wait()
    until(lambda: not alive(pid))
    parent.stdout.close()
