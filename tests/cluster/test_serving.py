"""One model from its first apply to its removal, asked through the proxy all the while."""

import json
import time
from typing import Any, Final

import pytest

from testkit.cluster_api import Manifest, condition, is_ready, revision_of, state_of
from testkit.cluster_lab import Bench, Served
from testkit.cluster_traffic import OK, Load, infer_body

pytestmark = pytest.mark.cluster

WEIGHT: Final = 25
TOLERANCE: Final = 0.1
LIMIT_BYTES: Final = 4096


@pytest.fixture(scope="module")
def model(bench: Bench) -> Served:
    steps = [{"weight": WEIGHT, "bakeSeconds": 10}, {"weight": 100}]
    served = bench.serve("fraud", replicas=2, rollout={"steps": steps, "revisionHistoryLimit": 1})
    served.until_ready()
    served.until_answered()
    return served


def _bakes(model_deployment: Manifest) -> bool:
    rollout = model_deployment["status"]["rollout"]
    return bool(rollout["state"] == "Analyzing" and rollout["weight"] == WEIGHT)


def test_an_applied_model_answers_through_the_proxy(model: Served) -> None:
    assert model.route.version() == 1
    answer = model.route.ask()
    assert answer.headers["X-Modelyard-Model-Version"] == "1"
    assert answer.revision == revision_of(model.get(), "stable")
    assert answer.headers["X-Request-Id"]


def test_kubectl_shows_what_goes_on(model: Served) -> None:
    where = f"--namespace={model.namespace}"
    kubectl = model.bench.lab.kubectl
    header, row = kubectl("get", "mdep", model.name, where).stdout.splitlines()
    shown = dict(zip(header.split(), row.split(), strict=False))
    assert (shown["READY"], shown["REASON"]) == ("True", "Serving")
    assert shown["STABLE"] == revision_of(model.get(), "stable")
    assert f"http://{model.route.host}/" in row
    described = kubectl("describe", "mdep", model.name, where).stdout
    for word in ("Observed Generation", "Last Transition Time", "Resolved URI", "Serving"):
        assert word in described
    explained = kubectl("explain", "mdep.spec.rollout").stdout
    assert "revisionHistoryLimit" in explained
    assert "bakeSeconds" in explained


def _tensor(**changes: Any) -> bytes:
    return infer_body(**changes)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (json.dumps({"inputs": []}).encode(), 400),
        (_tensor(name="z"), 400),
        (_tensor(datatype="INT64"), 400),
        (_tensor(datatype="FP31"), 400),
        (_tensor(shape=[4]), 400),
        (_tensor(shape=[1, 5]), 400),
        (_tensor(data=[1.0]), 400),
        (_tensor(data=["a", "b", "c", "d"]), 400),
        (_tensor(shape=[2**62, 4]), 400),
        (_tensor(shape=[-1, 4]), 400),
    ],
    ids=[
        *("json", "array", "empty", "name", "dtype", "no-dtype", "rank", "size", "count"),
        *("text", "overflow", "negative"),
    ],
)
def test_a_bad_request_is_refused_and_the_pod_lives_on(
    model: Served, body: bytes, status: int
) -> None:
    answer = model.route.ask(body)
    assert answer.status == status, answer
    assert {"error", "code", "request_id"} <= answer.document.keys()
    assert model.route.version() == 1
    assert _restarts(model) == 0


def test_the_repository_is_closed_from_outside(model: Served) -> None:
    answer = model.route.ask(b"{}", path=f"/v2/repository/models/{model.name}/unload")
    assert answer.status in {403, 404}
    assert model.route.version() == 1


def test_an_edit_is_promoted_as_a_canary_and_no_request_fails(model: Served) -> None:
    old = revision_of(model.get(), "stable")
    with Load(model.route) as load:
        model.edit_to(2)
        candidate = revision_of(model.until(_bakes), "candidate")
        load.until_answered_by(candidate)
        since = time.monotonic()
        model.until(lambda seen: not _bakes(seen))
        until = time.monotonic()
        final = model.until_ready()
        time.sleep(1)  # the load goes on when all is done
    new = revision_of(final, "stable")
    assert load.failed == []
    shares = load.shares(since, until)
    assert shares.keys() == {old, new}
    assert shares[new] == pytest.approx(WEIGHT / 100, abs=TOLERANCE), shares
    assert load.samples[0].revision == old
    assert load.samples[-1].revision == new
    assert model.route.version() == 2
    model.api.until_gone("Deployment", model.namespace, old)
    assert [one["metadata"]["name"] for one in model.all("Deployment")] == [new]
    assert {one["metadata"]["name"] for one in model.all("ControllerRevision")} == {old, new}
    assert _restarts(model) == 0


def test_kubectl_wait_returns_on_the_new_revision_only(model: Served) -> None:
    edited = model.edit_to(3, rollout={"steps": [{"weight": 100}]})
    waiting = ("wait", "--for=condition=Ready", f"mdep/{model.name}", "--timeout=120s")
    model.bench.lab.kubectl(*waiting, f"--namespace={model.namespace}")
    seen = model.get()
    assert seen["metadata"]["generation"] == edited["metadata"]["generation"]
    assert seen["status"]["stable"]["version"] == "3"
    assert model.route.version() == 3
    # Two revisions came before, and only one of them is kept.
    model.until(lambda _: len(model.all("ControllerRevision")) == 2, 10)


def test_a_deleted_pod_takes_no_request_with_it(model: Served) -> None:
    first, second = model.pods(revision_of(model.get(), "stable"))
    with Load(model.route) as load:
        model.api.delete("Pod", model.namespace, first["metadata"]["name"])
        model.api.until_gone("Pod", model.namespace, first["metadata"]["name"])
        model.until(lambda seen: seen["status"]["readyReplicas"] == 2)
    assert load.failed == []
    assert second["metadata"]["name"] in {pod["metadata"]["name"] for pod in model.pods()}


def test_kubectl_scale_works_and_scaling_down_loses_no_request(model: Served) -> None:
    kubectl = model.bench.lab.kubectl
    where = f"--namespace={model.namespace}"
    revision = revision_of(model.get(), "stable")
    kubectl("scale", f"mdep/{model.name}", "--replicas=3", where)
    grown = model.until(lambda seen: seen["status"]["readyReplicas"] == 3 and is_ready(seen))
    assert grown["spec"]["replicas"] == 3
    with Load(model.route) as load:
        kubectl("scale", f"mdep/{model.name}", "--replicas=1", where)
        model.until(lambda seen: seen["status"]["replicas"] == 1)
        model.api.until(
            *("Deployment", model.namespace, revision),
            lambda seen: seen["status"].get("replicas") == 1,
        )
        for pod in model.all("Pod"):
            if "deletionTimestamp" in pod["metadata"]:
                model.api.until_gone("Pod", model.namespace, pod["metadata"]["name"])
    assert load.failed == []
    assert revision_of(model.get(), "stable") == revision


def test_the_path_and_the_body_limit_change_in_running_pods(model: Served) -> None:
    before = model.until_ready()
    (pod,) = model.pods()
    model.edit(exposure={"path": "/models/fraud", "maxBodyBytes": LIMIT_BYTES})
    moved = model.at("/models/fraud")
    final = model.until_ready()
    moved.until_answered()
    assert moved.route.version() == 3
    assert moved.route.ask(path="/models/fraud/v2/health/ready").status == OK
    assert model.route.ask().status == 404
    rows = LIMIT_BYTES // len(infer_body())
    assert moved.route.ask(infer_body(rows=rows)).status == OK
    assert moved.route.ask(infer_body(rows=rows * 10)).status == 413
    assert final["status"]["url"] == f"http://{model.route.host}/models/fraud"
    assert revision_of(final, "stable") == revision_of(before, "stable")
    (kept,) = model.pods()
    assert kept["metadata"]["uid"] == pod["metadata"]["uid"]
    assert kept["metadata"]["annotations"]["modelyard.dev/directives-hash"]
    assert _restarts(model) == 0


def test_suspended_it_has_no_pods_and_no_routes_and_comes_back(model: Served) -> None:
    model.edit(suspend=True)
    asleep = model.until(lambda seen: condition(seen, "Suspended").get("status") == "True")
    assert condition(asleep, "Ready")["reason"] == "Suspended"
    model.until(lambda seen: seen["status"]["replicas"] == 0)
    assert model.all("Ingress") == []
    assert model.all("Deployment") == []
    model.edit(suspend=None)
    model.until_ready()
    moved = model.at("/models/fraud")
    moved.until_answered()
    assert moved.route.version() == 3


def test_deleted_it_leaves_nothing_and_a_namesake_works_at_once(model: Served) -> None:
    model.api.delete("ModelDeployment", model.namespace, model.name)
    again = model.bench.serve(model.name)
    ready = again.until_ready()
    again.until_answered()
    assert state_of(ready) == "Idle"
    assert again.route.version() == 1
    uid = ready["metadata"]["uid"]
    kinds = ("Deployment", "Service", "Ingress", "ConfigMap", "PodDisruptionBudget")
    for kind in (*kinds, "ControllerRevision"):
        for child in again.all(kind):
            assert child["metadata"]["ownerReferences"][0]["uid"] == uid, (kind, child)
    again.api.delete("ModelDeployment", again.namespace, again.name)
    for kind in kinds:
        for child in again.all(kind):
            again.api.until_gone(kind, again.namespace, child["metadata"]["name"])
            assert again.all(kind) == [] or kind != "Deployment"


def _restarts(model: Served) -> int:
    return sum(
        status["restartCount"]
        for pod in model.pods()
        for status in pod["status"].get("containerStatuses", ())
    )
