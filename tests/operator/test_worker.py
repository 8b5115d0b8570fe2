import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from modelyard_operator import worker
from modelyard_operator.errors import ClusterConflictError, ClusterError
from modelyard_operator.health import Health
from modelyard_operator.store import Key, Store
from modelyard_operator.worker import CONFLICT_DELAY_S, run_worker, sweep_forever
from modelyard_operator.workqueue import WorkQueue
from testkit.operator_cluster import RecordingCluster
from testkit.operator_objects import pod, raw_model_deployment

KEY = Key("ml", "fraud")


class Queue(WorkQueue[Key]):
    """Notes what is asked for instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, float]] = []

    def add(self, key: Key, delay_s: float = 0.0) -> None:
        assert key == KEY
        self.asked.append(("add", delay_s))

    def forget(self, key: Key) -> None:
        super().forget(key)
        self.asked.append(("forget", 0.0))


class Scripted:
    """A reconciler that answers as it is told."""

    def __init__(self, answer: Callable[[], Awaitable[float | None]]) -> None:
        self.answer = answer

    async def reconcile(self, key: Key) -> float | None:
        assert key == KEY
        return await self.answer()


async def work(outcome: Any, health: Health | None = None) -> Queue:
    """Run a worker over one key."""
    queue = Queue()
    finished = asyncio.Event()

    async def answer() -> float | None:
        finished.set()
        if isinstance(outcome, Exception):
            raise outcome
        delay: float | None = outcome
        return delay

    WorkQueue.add(queue, KEY)
    reconciler: Any = Scripted(answer)
    task = asyncio.create_task(run_worker(queue, reconciler, health or Health()))
    await finished.wait()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert queue._processing == set()
    return queue


@pytest.mark.parametrize(
    ("outcome", "asked"),
    [
        (None, [("forget", 0.0)]),
        (0.0, [("forget", 0.0), ("add", 0.0)]),
        (7.0, [("forget", 0.0), ("add", 7.0)]),
        (ClusterConflictError("moved on"), [("add", CONFLICT_DELAY_S)]),
    ],
)
async def test_what_follows_a_pass(outcome: Any, asked: list[tuple[str, float]]) -> None:
    assert (await work(outcome)).asked == asked


@pytest.mark.parametrize("error", [ClusterError("timeout"), RuntimeError("a bug")])
async def test_a_failure_backs_off_and_ends_no_worker(error: Exception) -> None:
    queue = await work(error)
    ((verb, delay),) = queue.asked
    assert verb == "add"
    assert 0 < delay <= queue.base_delay_s
    assert queue._failures == {KEY: 1}


async def test_health_follows_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    health = Health()
    await work(None, health)
    assert health.alive
    monkeypatch.setattr("modelyard_operator.health.time.monotonic", lambda: 1000.0)
    health.begin(KEY, 701.0)
    assert health.alive
    health.begin(KEY, 700.0)
    assert not health.alive
    health.end(KEY)
    health.end(KEY)
    assert health.alive


async def test_a_sweep_holds_the_store_against_the_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = 0

    async def no_sleep(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        assert seconds == worker.SWEEP_INTERVAL_S
        if rounds > 1:
            raise asyncio.CancelledError

    monkeypatch.setattr("modelyard_operator.worker.asyncio.sleep", no_sleep)
    cluster, store, queue = RecordingCluster(), Store(), Queue()
    owner = raw_model_deployment()
    cluster.objects["ModelDeployment", "fraud"] = owner
    cluster.failing["list", "Service"] = ClusterError("not now")
    store.put(owner)
    store.put(pod("fraud-a"))
    store.references.name(KEY, frozenset({"hooks"}))
    with pytest.raises(asyncio.CancelledError):
        await sweep_forever(store, cluster, queue)
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.pods == ()
    assert queue.asked == [("add", 0.0), ("add", 0.0)]  # for the pod, and for the files
