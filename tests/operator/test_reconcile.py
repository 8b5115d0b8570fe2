from typing import Any

import pytest

from modelyard_operator.errors import (
    ChildRejectedError,
    ClusterConflictError,
    ClusterError,
    ClusterForbiddenError,
    ClusterRejectedError,
    InvalidPodTemplateError,
    NotOwnedError,
)
from modelyard_operator.resources import labels
from modelyard_operator.store import Key
from testkit.operator_cluster import Bench, Clock
from testkit.operator_objects import EXPOSED, QUICK, raw_model_deployment, seconds

OTHER: dict[str, Any] = {"uri": "s3://models/fraud/9"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    raw = raw_model_deployment(replicas=2, exposure=EXPOSED, rollout=QUICK)
    return Bench(raw, monkeypatch)


async def test_status_is_written_before_anything_else(bench: Bench) -> None:
    await bench.once()
    assert bench.cluster.writes[0] == ("status", "ModelDeployment", "fraud")


async def test_a_model_gets_its_children_and_becomes_ready(bench: Bench) -> None:
    await bench.rest()
    kinds = sorted(kind for kind, _ in bench.cluster.objects if kind != "Pod")
    assert kinds == [
        "ConfigMap",
        "ConfigMap",
        "ControllerRevision",
        "Deployment",
        *("Ingress", "Ingress"),
        "ModelDeployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "Service",
    ]
    ready = next(c for c in bench.status["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Serving")
    assert (bench.status["replicas"], bench.status["readyReplicas"]) == (2, 2)


async def test_at_rest_nothing_is_written_even_by_a_new_process(bench: Bench) -> None:
    await bench.rest()
    bench.cluster.writes.clear()
    assert await bench.once() is None
    bench.restart()
    assert await bench.once() is None
    assert bench.cluster.writes == []


async def test_an_unknown_key_is_no_work(bench: Bench) -> None:
    await bench.rest()
    assert await bench.reconciler.reconcile(Key("ml", "other")) is None
    bench.store.remove(bench.cluster.objects["ModelDeployment", "fraud"])
    assert await bench.once() is None
    assert bench.reconciler._accepted == {}


async def test_an_edit_goes_through_its_steps_and_leaves_one_revision(bench: Bench) -> None:
    await bench.rest()
    first = bench.status["stable"]["revision"]
    bench.edit(model=OTHER)
    await bench.until("Analyzing", 50)
    assert bench.status["stable"] | {"revision": first, "weight": 50} == bench.status["stable"]
    assert bench.status["candidate"]["weight"] == 50
    canaries = {("Ingress", "fraud-canary"), ("Ingress", "fraud.grpc-canary")}
    assert canaries <= bench.cluster.objects.keys()
    await bench.rest()
    second = bench.status["stable"]["revision"]
    assert second != first
    assert not canaries & bench.cluster.objects.keys()
    assert [name for kind, name in bench.cluster.objects if kind == "Deployment"] == [second]
    records = {name for kind, name in bench.cluster.objects if kind == "ControllerRevision"}
    assert records == {first, second}
    reasons = [reason for _, reason, _ in bench.cluster.events]
    assert reasons == [
        "Ready",
        "RolloutStarted",
        "Shifting",
        "StepPassed",
        "Shifting",
        "Promoted",
        "Ready",
    ]


async def test_a_canary_route_goes_before_the_revision_it_names(bench: Bench) -> None:
    await bench.rest()
    bench.edit(model=OTHER)
    await bench.until("Analyzing", 50)
    bench.edit(suspend=True)
    await bench.rest()
    deleted = [kind for verb, kind, _ in bench.cluster.writes if verb == "delete"]
    assert deleted[:4] == ["Ingress"] * 4
    assert "Ingress" not in deleted[4:]
    left = {kind for kind, _ in bench.cluster.objects}
    assert left == {"ModelDeployment", "ControllerRevision"}


@pytest.mark.parametrize("limit", [0, 1])
async def test_retired_records_beyond_the_limit_go(bench: Bench, limit: int) -> None:
    bench.edit(rollout={**QUICK, "revisionHistoryLimit": limit})
    for version in range(3):
        bench.edit(model={"uri": f"s3://models/fraud/{version}"})
        await bench.rest()
    records = [name for kind, name in bench.cluster.objects if kind == "ControllerRevision"]
    assert len(records) == 1 + limit


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ClusterForbiddenError("services is forbidden: exceeded quota: q"),
            "NamespaceQuotaExceeded",
        ),
        (ClusterForbiddenError("services is forbidden: denied by a policy"), "Forbidden"),
    ],
)
async def test_a_child_that_may_not_be_made_is_told_and_tried_again(
    bench: Bench, error: ClusterForbiddenError, reason: str
) -> None:
    bench.cluster.failing["apply", "Service"] = error
    await bench.once()  # names the candidate
    for _ in range(2):
        with pytest.raises(ClusterForbiddenError):
            await bench.once()
    assert bench.status["failure"]["reason"] == reason
    assert str(error) in bench.status["failure"]["message"]
    stalled = next(c for c in bench.status["conditions"] if c["type"] == "Stalled")
    assert stalled["status"] == "False"  # it may pass
    assert "Deployment" in {kind for kind, _ in bench.cluster.objects}
    bench.cluster.failing.clear()
    await bench.rest()
    assert "failure" not in bench.status
    assert ("Service", "fraud") in bench.cluster.objects


async def test_drift_is_repaired(bench: Bench) -> None:
    await bench.rest()
    service = bench.cluster.objects["Service", "fraud"]
    service["spec"]["selector"] = {"app": "mine"}
    bench.put(service)
    bench.cluster.writes.clear()
    await bench.rest()
    applied = [name for verb, _, name in bench.cluster.writes if verb == "apply"]
    assert "fraud" in applied
    assert bench.cluster.objects["Service", "fraud"]["spec"]["selector"] != {"app": "mine"}
    assert bench.cluster.forced["Service", "fraud"]


async def test_what_the_api_server_made_of_an_apply_is_not_drift(bench: Bench) -> None:
    await bench.rest()
    place = ("Service", "fraud")
    applied = bench.cluster.objects[place]
    applied["spec"]["ports"][0]["port"] = 8  # a form of its own: never what we asked for
    bench.store.remove(applied)
    bench.cluster.objects[place] = applied
    bench.reconciler._accepted[(bench.key, *place)] = (
        applied["metadata"]["annotations"][labels.APPLIED_HASH],
        applied["metadata"]["resourceVersion"],
    )
    bench.store.put(applied)
    bench.cluster.writes.clear()
    assert await bench.once() is None
    assert bench.cluster.writes == []


async def test_replicas_set_by_hand_are_set_back(bench: Bench) -> None:
    await bench.rest()
    name = bench.status["stable"]["revision"]
    workload = bench.cluster.objects["Deployment", name]
    workload["spec"]["replicas"] = 5
    bench.put(workload)
    await bench.rest()
    assert ("scale", "Deployment", f"{name}=2") in bench.cluster.writes


async def test_a_new_child_is_not_taken_over_by_force(bench: Bench) -> None:
    bench.cluster.failing["apply", "Service"] = ClusterConflictError("held by helm")
    await bench.once()
    with pytest.raises(NotOwnedError, match=r"Service .* exists already"):
        await bench.once()
    # The others have their place, and the next pass says what is wrong.
    assert ("Deployment", bench.status["candidate"]["revision"]) in bench.cluster.objects
    with pytest.raises(NotOwnedError):
        await bench.once()
    assert bench.status["failure"]["reason"] == "NameTaken"


async def test_a_conflict_over_a_known_child_is_tried_again(bench: Bench) -> None:
    await bench.rest()
    service = bench.cluster.objects["Service", "fraud"]
    service["spec"]["selector"] = {}
    bench.put(service)
    bench.cluster.failing["apply", "Service"] = ClusterConflictError("changed")
    with pytest.raises(ClusterConflictError):
        await bench.once()


@pytest.mark.parametrize(
    ("kind", "error"),
    [("Deployment", InvalidPodTemplateError), ("Ingress", ChildRejectedError)],
)
async def test_a_refused_child_is_reported_until_the_next_edit(
    bench: Bench, kind: str, error: type[Exception]
) -> None:
    bench.cluster.failing["apply", kind] = ClusterRejectedError("spec.x: Invalid value")
    with pytest.raises(error, match="Invalid value"):
        await bench.rest()
    with pytest.raises(error):
        await bench.rest()
    stalled = next(c for c in bench.status["conditions"] if c["type"] == "Stalled")
    assert stalled["status"] == "True"
    bench.cluster.failing.clear()
    bench.edit(model=OTHER)
    await bench.rest()
    assert "failure" not in bench.status


async def test_a_namesake_s_child_is_waited_for(bench: Bench) -> None:
    await bench.rest()
    service = bench.cluster.objects["Service", "fraud"]
    service["metadata"]["ownerReferences"][0]["uid"] = "uid-older"
    bench.put(service)
    with pytest.raises(ClusterConflictError, match="another object"):
        await bench.once()


async def test_other_errors_pass(bench: Bench) -> None:
    bench.cluster.failing["apply", "ConfigMap"] = ClusterError("timeout")
    await bench.once()
    with pytest.raises(ClusterError, match="timeout"):
        await bench.once()


async def test_a_lost_race_for_status_touches_nothing(bench: Bench) -> None:
    bench.cluster.objects["ModelDeployment", "fraud"]["metadata"]["resourceVersion"] = "99"
    with pytest.raises(ClusterConflictError):
        await bench.once()
    assert [verb for verb, *_ in bench.cluster.writes] == ["status"]


async def test_pods_learn_of_new_directives(bench: Bench) -> None:
    await bench.rest()
    exposure = {**EXPOSED, "path": "/fraud"}
    bench.edit(exposure=exposure)
    await bench.once()
    revision = bench.status["stable"]["revision"]
    changed = bench.cluster.objects["ConfigMap", f"{revision}-directives"]
    changed["metadata"]["managedFields"] = [{"time": "2026-01-01T12:30:00Z"}]
    bench.put(changed)
    await bench.rest()
    annotated = [name for verb, _, name in bench.cluster.writes if verb == "annotate"]
    assert sorted(annotated) == [f"{revision}-0", f"{revision}-1"]
    bench.cluster.writes.clear()
    await bench.rest()
    assert bench.cluster.writes == []


async def test_the_pass_after_a_route_waits_for_the_proxies(bench: Bench) -> None:
    await bench.until("Idle")
    assert await bench.once() == 0.0  # written, so it looks again
    assert await bench.once() == 5.0
    Clock.at += seconds(5)
    await bench.once()
    assert next(c for c in bench.status["conditions"] if c["type"] == "Ready")["status"] == "True"


async def test_a_command_moves_a_paused_rollout_once(bench: Bench) -> None:
    steps = [{"weight": 50, "pause": "Manual"}, {"weight": 100, "pause": "Manual"}]
    bench.edit(rollout={"steps": steps, "bakeSeconds": 0})
    await bench.rest()
    bench.edit(model=OTHER)
    await bench.until("Paused", 50)
    candidate = bench.status["candidate"]["revision"]
    bench.annotate(f"promote@{candidate}#1")
    await bench.until("Paused", 100)
    bench.cluster.writes.clear()
    await bench.rest()
    assert bench.state == "Paused"
    assert bench.status["rollout"]["lastCommand"]["result"] == "Accepted"


async def test_a_pruned_child_that_is_on_its_way_out_is_left_alone(bench: Bench) -> None:
    await bench.rest()
    stray = bench.cluster.objects["Service", bench.status["stable"]["revision"]]
    stray = {**stray, "metadata": {**stray["metadata"], "name": "stray", "uid": "uid-stray"}}
    bench.put({**stray, "metadata": {**stray["metadata"], "deletionTimestamp": "now"}})
    bench.cluster.writes.clear()
    await bench.rest()
    assert bench.cluster.writes == []
    bench.put(stray)
    await bench.rest()
    assert ("delete", "Service", "stray") in bench.cluster.writes


async def test_nothing_is_pruned_while_nothing_is_known(bench: Bench) -> None:
    await bench.rest()
    raw = bench.cluster.objects["ModelDeployment", "fraud"]
    raw["status"] = {}
    raw["spec"]["model"] = {"uri": "ftp://models"}
    bench.put(raw)
    bench.cluster.writes.clear()
    await bench.once()
    assert [verb for verb, *_ in bench.cluster.writes] == ["status"]
    assert bench.status["failure"]["reason"] == "UnsupportedURIScheme"


async def test_a_refusal_ends_when_the_child_is_accepted(bench: Bench) -> None:
    bench.cluster.failing["apply", "Service"] = ClusterConflictError("held by helm")
    await bench.once()
    for _ in range(2):
        with pytest.raises(NotOwnedError):
            await bench.once()
    assert bench.status["failure"]["reason"] == "NameTaken"
    bench.cluster.failing.clear()  # somebody followed the hint
    await bench.rest()
    assert "failure" not in bench.status
    assert bench.state == "Idle"


async def test_a_refused_record_is_not_tried_in_a_circle(bench: Bench) -> None:
    await bench.rest()
    bench.cluster.failing["apply", "ControllerRevision"] = ClusterRejectedError("no")
    bench.cluster.failing["apply", "Deployment"] = ClusterRejectedError("no")
    bench.edit(model=OTHER)
    with pytest.raises((ChildRejectedError, InvalidPodTemplateError)):
        await bench.rest()
    await bench.rest(limit=10)
    rollout = bench.status["rollout"]
    assert rollout["state"] == "RolledBack"
    assert rollout["lastRollback"]["reason"] in {"ChildRejected", "InvalidPodTemplate"}
