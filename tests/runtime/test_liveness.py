"""An engine that is stuck is found; one that is busy is left alone."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health_pb2

from modelyard_runtime.batching.batcher import Batcher
from modelyard_runtime.batching.calls import BatchLimits, BatchReport
from modelyard_runtime.engine.protocol import Outage
from modelyard_runtime.grpc_api.health import HealthServicer
from modelyard_runtime.liveness import patience_s, stalled, watch_lag
from modelyard_runtime.model_statistics import Statistics
from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Stuck:
    """A model that answers when it is let."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def run(self, items: Sequence[int]) -> Sequence[int]:
        self.entered.set()
        self.go_on.wait()
        return items

    def cut(self, item: int, start: int, stop: int) -> int:
        raise NotImplementedError

    def join(self, answers: Sequence[int]) -> int:
        raise NotImplementedError


class Observer:
    def batch_done(self, report: BatchReport) -> None:
        pass


def report(run_s: float) -> BatchReport:
    return BatchReport(
        rows=1, requests=1, run_s=run_s, trigger="idle", fill=1, bisections=0, poisoned=0
    )


def served(
    silent_s: float,
    *batches_s: float,
    timeout_s: float = 30,
    restarts: bool = False,
    outage: Outage | None = None,
) -> Any:
    statistics = Statistics(Observer())
    for run_s in batches_s:
        statistics.batch_done(report(run_s))
    batcher = SimpleNamespace(silent_s=silent_s)
    model = SimpleNamespace(restarts=restarts, outage=outage)
    return SimpleNamespace(
        name="m", model=model, batcher=batcher, statistics=statistics, timeout_s=timeout_s
    )


def test_an_engine_that_restarts_itself_is_left_to_do_so() -> None:
    away = Outage("killed")
    assert stalled([served(9999, restarts=True)]) is None
    assert stalled([served(9999, restarts=True, outage=away)]) is None
    assert stalled([served(9999, restarts=True), served(9999)]) is not None


def test_engines_that_are_given_up_end_the_container_once_nothing_else_serves() -> None:
    lost = Outage("rubbish", unavailable=True, final=True)
    assert stalled([served(0, restarts=True, outage=lost)]) == "no engine is left"
    assert stalled([served(0, restarts=True, outage=lost), served(0)]) is None


def test_a_slow_model_is_given_ten_times_its_time() -> None:
    assert patience_s(served(0, *[0.001] * 300)) == 10
    assert patience_s(served(0, *[2.0] * 300)) == 20
    assert patience_s(served(0, *[0.001] * 290, *[3.0] * 10)) == 30
    assert patience_s(served(0)) == 30  # nothing measured: a request's time-out
    assert patience_s(served(0, timeout_s=1)) == 10


def test_silence_beyond_patience_is_named() -> None:
    assert stalled([]) is None
    assert stalled([served(9.9, 0.001), served(19, 2.0)]) is None
    problem = stalled([served(0, 0.001), served(10.1, 0.001)])
    assert problem is not None
    assert "'m'" in problem
    assert "10 s" in problem


async def test_a_batch_that_does_not_end_is_silence() -> None:
    clock, model = Clock(), Stuck()
    batcher: Batcher[int, int] = Batcher(model, BatchLimits(max_rows=1), clock=clock)
    clock.ahead = 1000
    assert batcher.silent_s == 0  # idle for however long
    asked = asyncio.create_task(batcher.submit(1, key=0, rows=1, deadline=clock() + 5))
    await asyncio.to_thread(model.entered.wait)
    assert batcher.silent_s < 5
    clock.ahead += 100
    assert 100 <= batcher.silent_s < 105
    waiting = asyncio.create_task(batcher.submit(2, key=0, rows=1, deadline=clock() + 50))
    await asyncio.sleep(0)
    assert batcher.silent_s >= 100  # who comes later does not hide it
    model.go_on.set()
    assert (await asked, await waiting) == (1, 2)
    assert batcher.silent_s == 0
    batcher.close()


async def test_an_engine_that_is_gone_is_silence_too() -> None:
    clock, model = Clock(), Stuck()
    model.go_on.set()
    batcher: Batcher[int, int] = Batcher(model, BatchLimits(max_rows=1), clock=clock)
    batcher._closed = True  # its thread takes nothing any more
    asked = asyncio.create_task(batcher.submit(1, key=0, rows=1, deadline=clock() + 500))
    await asyncio.sleep(0)
    assert batcher.silent_s < 5
    clock.ahead = 60
    assert batcher.silent_s >= 60
    asked.cancel()
    batcher.close()


async def test_waiting_to_fill_a_batch_is_no_silence() -> None:
    clock, model = Clock(), Stuck()
    batcher: Batcher[int, int] = Batcher(
        model, BatchLimits(max_rows=8, max_delay_s=60), clock=clock
    )
    asked = asyncio.create_task(batcher.submit(1, key=0, rows=1, deadline=clock() + 500))
    await asyncio.sleep(0)
    clock.ahead = 50
    assert batcher.silent_s == 0
    asked.cancel()
    model.go_on.set()
    batcher.close()


async def test_probes_hear_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.linear_onnx(tmp_path / "model.onnx")
    async with serving(model) as (client, service):
        health = HealthServicer(service)

        async def told() -> tuple[int, int, Any]:
            live = await client.get("/v2/health/live")
            ready = await client.get("/v2/health/ready")
            grpc = await health.Check(health_pb2.HealthCheckRequest(), None)
            return live.status_code, ready.status_code, grpc.status

        assert await told() == (200, 200, health_pb2.HealthCheckResponse.SERVING)
        monkeypatch.setattr(Batcher, "silent_s", 3600.0)
        assert await told() == (503, 503, health_pb2.HealthCheckResponse.NOT_SERVING)
        assert "no sign of life" in (await client.get("/v2/health/live")).json()["error"]


async def test_the_loops_lag_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard_runtime.liveness._LAG_EVERY_S", 0.01)
    noted: asyncio.Queue[float] = asyncio.Queue()
    watching = asyncio.create_task(watch_lag(noted.put_nowait))
    await noted.get()
    time.sleep(0.1)  # noqa: ASYNC251 - the loop is held up on purpose
    lags = [await noted.get(), await noted.get()]
    assert max(lags) > 0.05
    watching.cancel()
