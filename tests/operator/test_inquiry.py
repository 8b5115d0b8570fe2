from datetime import timedelta
from typing import Any

import pytest

from modelyard_operator.errors import ClusterForbiddenError
from modelyard_operator.inquiry import EVENTS_INTERVAL, INVENTORY_INTERVAL
from testkit.operator_cluster import Bench, Clock
from testkit.operator_objects import NOW, pod, raw_model_deployment

MOUNT = {
    "reason": "FailedMount",
    "message": 'MountVolume.SetUp failed for volume "ca" : configmap "corp-ca" not found',
    "firstTimestamp": "2026-01-01T11:59:59Z",
    "lastTimestamp": "2026-01-01T11:59:59Z",
}
STARTING: dict[str, Any] = {
    "containerStatuses": [{"name": "runtime", "image": "i", "state": {"waiting": {}}}]
}


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(raw_model_deployment(accelerator={"count": 1}), monkeypatch)
    while await made.once() == 0:
        pass
    return made


def show(bench: Bench, age_s: float = 60, **status: Any) -> None:
    (name,) = [name for kind, name in bench.cluster.objects if kind == "Deployment"]
    created = (NOW - timedelta(seconds=age_s)).isoformat().replace("+00:00", "Z")
    placed = {"type": "PodScheduled", "status": "True"}
    bench.put(pod(name, created=created, conditions=status.pop("conditions", [placed]), **status))


def condition(bench: Bench, type_: str) -> dict[str, Any]:
    (found,) = [one for one in bench.status["conditions"] if one["type"] == type_]
    return dict(found)


async def test_a_pod_that_does_not_start_is_asked_about(bench: Bench) -> None:
    show(bench, **STARTING)
    uid = next(
        raw["metadata"]["uid"] for (kind, _), raw in bench.cluster.objects.items() if kind == "Pod"
    )
    bench.cluster.pod_events[uid] = [MOUNT]
    await bench.once()
    assert bench.status["failure"]["reason"] == "ConfigMapNotFound"
    assert bench.status["failure"]["lastTime"] == MOUNT["firstTimestamp"]
    assert await bench.once() == EVENTS_INTERVAL.total_seconds()
    assert bench.cluster.questions == [f"events of {uid}"]  # a burst of passes asks once
    Clock.at += EVENTS_INTERVAL
    await bench.once()
    assert len(bench.cluster.questions) == 2


async def test_a_pod_gets_a_moment_before_it_is_suspicious(bench: Bench) -> None:
    show(bench, age_s=1, **STARTING)
    await bench.once()
    assert await bench.once() == 4
    assert bench.cluster.questions == []


async def test_a_pod_that_loads_its_model_is_not_asked_about(bench: Bench) -> None:
    running = {"name": "runtime", "image": "i", "started": True, "state": {"running": {}}}
    show(bench, containerStatuses=[running])
    await bench.once()
    assert await bench.once() != EVENTS_INTERVAL.total_seconds()
    assert bench.cluster.questions == []


async def test_a_pod_that_has_no_node_is_no_business_of_the_kubelet(bench: Bench) -> None:
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    show(bench, conditions=[gated])
    await bench.once()
    assert bench.cluster.questions == []


def _unscheduled(bench: Bench) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    said = {"message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."}
    show(bench, conditions=[condition | said])


async def test_devices_are_counted_while_a_pod_waits_for_one(bench: Bench) -> None:
    gpu = {"nvidia.com/gpu": "2"}
    ready = [{"type": "Ready", "status": "True"}]
    bench.cluster.nodes = [
        {"metadata": {"name": "a"}, "status": {"allocatable": gpu, "conditions": ready}},
        {"metadata": {"name": "b"}, "status": {"allocatable": {"cpu": "8"}, "conditions": ready}},
    ]
    taken = {"spec": {"nodeName": "a", "containers": [{"resources": {"limits": gpu}}]}}
    bench.cluster.pods_on["a"] = [taken]
    _unscheduled(bench)
    await bench.once()
    capacity = condition(bench, "CapacityAvailable")
    assert (capacity["status"], capacity["reason"]) == ("False", "InsufficientAccelerator")
    assert "needs 1 nvidia.com/gpu, 0 free of 2: 0/1 nodes" in capacity["message"]
    # Nodes without devices hold none of their pods' devices.
    assert bench.cluster.questions == ["nodes", "pods on a"]
    assert await bench.once() == INVENTORY_INTERVAL.total_seconds()
    assert len(bench.cluster.questions) == 2
    bench.cluster.pods_on["a"] = []
    Clock.at += INVENTORY_INTERVAL
    await bench.once()
    assert "2 free of 2" in condition(bench, "CapacityAvailable")["message"]


async def test_who_may_not_see_nodes_says_it_without_figures(bench: Bench) -> None:
    bench.cluster.failing["list", "Node"] = ClusterForbiddenError("nodes is forbidden")
    _unscheduled(bench)
    await bench.once()
    message = condition(bench, "CapacityAvailable")["message"]
    assert "needs 1 nvidia.com/gpu, and no node has them free: 0/1 nodes" in message


async def test_nothing_in_trouble_asks_nothing(bench: Bench) -> None:
    bench.start_pods()
    await bench.rest()
    assert condition(bench, "CapacityAvailable")["status"] == "True"
    assert bench.cluster.questions == []
