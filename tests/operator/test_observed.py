import json
from typing import Any

import pytest

from modelyard_operator.pods import is_ready
from modelyard_operator.resources.service import build_cluster_service
from modelyard_operator.resources.workload import build_workload
from modelyard_operator.revision import build_controller_revision, target_revision
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.routing import Backends
from modelyard_operator.traffic.ingress import render_ingresses
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import resolve_proxy
from testkit.operator_objects import (
    EXPOSED,
    live,
    model_deployment,
    observe,
    operator_settings,
    pod,
    revision_of,
)

OWNER = model_deployment(exposure=EXPOSED)
REVISION = revision_of(OWNER)
PROXY = resolve_proxy(OWNER.spec.exposure, operator_settings())


def routes(backends: Backends) -> list[dict[str, Any]]:
    return [live(one) for one in render_ingresses(OWNER, TrafficPlan(
        OWNER.spec.exposure, PROXY, backends))]  # fmt: skip


def test_the_world_is_what_the_objects_say() -> None:
    workload = live(build_workload(OWNER, REVISION), replicas=3)
    service = live(build_cluster_service(OWNER, REVISION.name))
    leaving = pod(REVISION.name, "c", ready=True)
    leaving["metadata"]["deletionTimestamp"] = "now"
    pods = [pod(REVISION.name, "a", ready=True), pod(REVISION.name, "b"), leaving]
    stray = pod("fraud-gone", ready=True)
    seen = observe(
        OWNER, workload, service, *pods, stray, *routes(Backends(REVISION.name, "fraud-b", 25))
    )
    world = seen.world(PROXY)
    assert world.ready == {REVISION.name: 1}
    assert world.replicas == {REVISION.name: 3}
    assert (world.primary, world.canary, world.canary_weight) == (REVISION.name, "fraud-b", 25)
    assert (world.selected, world.splits) == (REVISION.name, True)
    assert world.weights == {REVISION.name: 75, "fraud-b": 25}


def test_an_empty_world() -> None:
    world = observe(OWNER).world(PROXY)
    assert (world.primary, world.canary, world.selected, world.weights) == (None, None, None, {})


def test_without_a_route_the_service_counts() -> None:
    bare = model_deployment()
    service = live(build_cluster_service(bare, "fraud-a"))
    proxy = resolve_proxy(bare.spec.exposure, operator_settings())
    assert observe(bare, service).world(proxy).primary == "fraud-a"
    assert observe(OWNER, service).world(PROXY).primary is None


def test_both_routes_naming_one_revision_are_all_of_the_traffic() -> None:
    world = observe(OWNER, *routes(Backends("fraud-b", "fraud-b", 100))).world(PROXY)
    assert world.weights == {"fraud-b": 100}


def test_history_is_newest_first() -> None:
    older = build_controller_revision(OWNER, REVISION)
    other = model_deployment(exposure=EXPOSED, model={"uri": "s3://other"})
    newest = target_revision(other, [REVISION], catalogue=operator_settings().catalogue, files={})
    records = [live(older), live(build_controller_revision(OWNER, newest))]
    assert observe(OWNER, *records).history == (newest, REVISION)


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        (None, False),
        ([], False),
        ([{"type": "Ready", "status": "True"}], True),
        ([{"type": "Ready", "status": "False"}], False),
        ([{"type": "ContainersReady", "status": "True"}], False),
    ],
)
def test_a_pod_is_ready_when_it_says_so(conditions: Any, ready: bool) -> None:  # noqa: FBT001
    assert is_ready({"status": {"conditions": conditions}}) is ready
    assert not is_ready({})


def test_the_machine_is_told_what_no_second_pod_would_mend() -> None:
    word = json.dumps(
        {"reason": "InvalidArtifact", "message": "no model", "hint": "export it anew"}
    )
    terminated = {"exitCode": 1, "reason": "Error", "message": word}
    status = {"name": "runtime", "image": "i", "restartCount": 0}
    crashed = pod(REVISION.name, containerStatuses=[status | {"state": {"terminated": terminated}}])
    workload = live(build_workload(OWNER, REVISION))
    world = observe(OWNER, workload, crashed).world(PROXY)
    (broken,) = world.broken.items()
    assert broken == (
        REVISION.name,
        Judgement(Verdict.FAIL, "InvalidArtifact", "no model (export it anew)"),
    )
    assert world.unschedulable == {}


def test_the_machine_is_told_who_finds_no_room() -> None:
    workload = live(build_workload(OWNER, REVISION))
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    waits = pod(REVISION.name, "a", conditions=[scheduled | {"message": "1 Insufficient cpu"}])
    runs = pod(REVISION.name, "b", conditions=[scheduled | {"status": "True", "reason": ""}])
    world = observe(OWNER, workload, waits, runs).world(PROXY)
    assert world.unschedulable == {REVISION.name: "1 Insufficient cpu"}
    assert world.placed == {REVISION.name: 1}
    assert world.broken == {}
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}
    workload["status"] = {"conditions": [refused]}
    assert observe(OWNER, workload).world(PROXY).unschedulable == {
        REVISION.name: "exceeded quota: gpus"
    }
