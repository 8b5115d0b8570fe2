"""What ``desired_state`` puts together; its parts have tests of their own."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from modelyard_operator.checks import (
    ImageNotAllowedError,
    UnsupportedURISchemeError,
    check_spec,
)
from modelyard_operator.desired import desired_state
from modelyard_operator.errors import ChildRejectedError, InvalidSpecError
from modelyard_operator.plan import Plan
from modelyard_operator.reconcile import orphans
from modelyard_operator.resources import labels
from modelyard_operator.resources.directives import directives_hash
from testkit.operator_cluster import Bench, Clock
from testkit.operator_objects import (
    EXPOSED,
    NOW,
    by_kind,
    config_map,
    model_deployment,
    observe,
    operator_settings,
    pod,
    raw_model_deployment,
    revision_of,
)

QUICK = {"steps": [{"weight": 50}, {"weight": 100}], "bakeSeconds": 30}
OTHER = {"uri": "s3://models/fraud/9"}
SCALING = {
    "minReplicas": 2,
    "maxReplicas": 8,
    "metrics": [{"type": "Resource", "resource": "cpu", "target": 70}],
}


def plan_of(bench: Bench) -> Plan:
    observed = bench.store.observe(bench.key)
    assert observed is not None
    return desired_state(observed, bench.settings, Clock.at)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    raw = raw_model_deployment(replicas=4, exposure=EXPOSED, rollout=QUICK)
    return Bench(raw, monkeypatch)


def test_the_scheme_must_have_a_loader() -> None:
    with pytest.raises(UnsupportedURISchemeError, match=r"model\.uri: .*http.*pvc, s3, got 'ftp'"):
        check_spec(model_deployment(model={"uri": "ftp://x"}), operator_settings())


@pytest.mark.parametrize(
    ("image", "fine"),
    [(None, True), ("registry.corp/x:1", True), ("docker.io/x:1", False)],
)
def test_the_image_must_come_from_an_allowed_registry(image: str | None, fine: bool) -> None:  # noqa: FBT001
    owner = model_deployment(runtime={"image": image})
    check_spec(owner, operator_settings())
    settings = operator_settings(allowed_registries=("registry.corp/",))
    if fine:
        check_spec(owner, settings)
        return
    with pytest.raises(ImageNotAllowedError, match=r"runtime\.image: .*registry\.corp/"):
        check_spec(owner, settings)


@pytest.mark.parametrize(
    ("window", "says"),
    [
        ({"cron": "61 0 * * *"}, "minute: expected 0 to 59, got '61'"),
        ({"cron": "0 0 * * *", "timeZone": "Mars"}, "expected an IANA time zone, got 'Mars'"),
    ],
)
def test_a_freeze_window_that_the_schema_cannot_judge(window: Any, says: str) -> None:
    fine = {"cron": "0 18 * * 5", "durationMinutes": 60}
    windows = [fine, window | {"durationMinutes": 60}]
    owner = model_deployment(rollout={"freeze": windows})
    with pytest.raises(InvalidSpecError, match=re.escape(f"spec.rollout.freeze[1]: {says}")):
        check_spec(owner, operator_settings())
    check_spec(model_deployment(rollout={"freeze": [fine]}), operator_settings())


async def test_a_spec_that_cannot_be_built_changes_nothing_that_serves(bench: Bench) -> None:
    await bench.rest()
    bench.edit(model=OTHER)
    await bench.until("Analyzing", 50)
    before = plan_of(bench)
    bench.edit(model={"uri": "ftp://x"})
    after = plan_of(bench)
    assert isinstance(after.problem, UnsupportedURISchemeError)
    assert after.target is None
    assert after.failure is not None
    assert after.failure.reason == "UnsupportedURIScheme"
    assert by_kind(after.objects) == by_kind(before.objects)
    assert after.traffic == before.traffic
    observed = bench.store.observe(bench.key)
    assert observed is not None
    assert list(orphans(observed, after)) == []


async def test_a_first_spec_that_cannot_be_built_leads_to_nothing() -> None:
    plan = desired_state(
        observe(model_deployment(model={"uri": "ftp://x"})), operator_settings(), NOW
    )
    assert (plan.objects, plan.rollout.candidate) == ((), None)


async def test_a_rejected_child_stops_new_revisions_until_an_edit(bench: Bench) -> None:
    await bench.rest()
    error = ChildRejectedError("no")
    bench.store.reject(bench.key, 1, error)
    plan = plan_of(bench)
    assert plan.problem is error
    assert plan.rollout.state == "Idle"


async def test_a_lost_status_with_a_bad_spec_goes_on_with_what_is_routed(bench: Bench) -> None:
    await bench.rest()
    stable = bench.status["stable"]["revision"]
    raw = raw_model_deployment(exposure=EXPOSED, model={"uri": "ftp://x"})
    bench.put(raw)
    assert plan_of(bench).rollout.stable == stable


async def test_children_of_a_revision_whose_record_is_lost_are_left_alone(bench: Bench) -> None:
    await bench.rest()
    stable = bench.status["stable"]["revision"]
    bench.edit(model=OTHER)
    await bench.until("Analyzing", 50)
    record = bench.cluster.objects["ControllerRevision", stable]
    bench.store.remove(record)
    plan = plan_of(bench)
    assert plan.protected == {stable}
    observed = bench.store.observe(bench.key)
    assert observed is not None
    assert list(orphans(observed, plan)) == []
    assert stable not in plan.scales


async def test_sizes_follow_the_step(bench: Bench) -> None:
    await bench.rest()
    stable = bench.status["stable"]["revision"]
    bench.edit(model=OTHER)
    await bench.until("Analyzing", 50)
    candidate = bench.status["candidate"]["revision"]
    assert plan_of(bench).scales == {stable: 4, candidate: 2}


async def test_autoscalers_hold_stable_and_raise_the_candidate_s_floor(bench: Bench) -> None:
    bench.edit(replicas=None, scaling=SCALING)
    await bench.rest()
    stable = bench.status["stable"]["revision"]
    workload = bench.cluster.objects["Deployment", stable]
    workload["spec"]["replicas"] = 6  # the autoscaler did that
    bench.put(workload)
    bench.start_pods()
    bench.edit(model=OTHER)
    await bench.until("Warming")
    candidate = bench.status["candidate"]["revision"]
    plan = plan_of(bench)
    children = by_kind(plan.objects)
    old = children["HorizontalPodAutoscaler", stable]["spec"]
    new = children["HorizontalPodAutoscaler", candidate]["spec"]
    assert (old["minReplicas"], old["behavior"]) == (2, {"scaleDown": {"selectPolicy": "Disabled"}})
    assert (new["minReplicas"], "behavior" in new) == (3, False)
    assert plan.scales == {}
    empty = bench.cluster.objects["Deployment", candidate]
    empty["spec"]["replicas"] = 0
    bench.put(empty)
    assert plan_of(bench).scales == {candidate: 3}


async def test_nothing_routes_before_something_serves(bench: Bench) -> None:
    await bench.once()
    await bench.once()
    plan = plan_of(bench)
    kinds = by_kind(plan.objects)
    assert ("Ingress", "fraud") not in kinds
    # Callers inside the cluster find the name at once.
    selector = kinds["Service", "fraud"]["spec"]["selector"]
    assert selector[labels.REVISION] == plan.rollout.candidate


async def test_a_suspended_object_has_no_children(bench: Bench) -> None:
    await bench.rest()
    bench.edit(suspend=True)
    plan = plan_of(bench)
    assert plan.objects == ()
    assert plan.failure is None


async def test_a_command_is_carried_out_in_the_pass(bench: Bench) -> None:
    await bench.rest()
    bench.edit(model=OTHER)
    await bench.until("Analyzing", 50)
    bench.annotate(f"pause@{bench.status['candidate']['revision']}#7")
    assert plan_of(bench).rollout.paused_reason == "Command"


async def test_a_pod_in_trouble_is_no_failure_of_a_revision_that_serves(bench: Bench) -> None:
    await bench.rest()
    stable = bench.status["stable"]["revision"]
    crashed = {"name": "runtime", "restartCount": 1, "state": {"terminated": {"exitCode": 1}}}
    bench.put(pod(stable, "extra", containerStatuses=[crashed]))
    assert plan_of(bench).failure is None
    for index in range(4):
        bench.store.remove(bench.cluster.objects["Pod", f"{stable}-{index}"])
    failing = plan_of(bench).failure
    assert failing is not None
    assert failing.reason == "ContainerCrashed"


def _said(plan: Plan, revision: str) -> dict[str, Any]:
    text = by_kind(plan.objects)["ConfigMap", f"{revision}-directives"]["data"]["directives.json"]
    said: dict[str, Any] = json.loads(text)
    return said


async def test_a_candidate_must_agree_and_a_promoted_revision_only_reports(bench: Bench) -> None:
    bench.put(config_map("golden", a="[]"))
    golden = {"requests": [{"configMapName": "golden", "key": "a"}]}
    bench.edit(rollout=QUICK | {"verification": golden})
    await bench.once()
    await bench.once()
    first = bench.status["candidate"]["revision"]
    assert _said(plan_of(bench), first)["verification"] == "Gate"
    await bench.rest()
    assert _said(plan_of(bench), first)["verification"] == "Report"
    bench.edit(model=OTHER)
    await bench.until("Analyzing", 50)
    second = bench.status["candidate"]["revision"]
    plan = plan_of(bench)
    assert [_said(plan, one)["verification"] for one in (first, second)] == ["Report", "Gate"]


async def test_without_golden_requests_a_promotion_tells_pods_nothing(bench: Bench) -> None:
    await bench.rest()
    assert "verification" not in _said(plan_of(bench), bench.status["stable"]["revision"])
    assert "annotate" not in {verb for verb, *_ in bench.cluster.writes}


def _directives(revision: str, changed: str | None) -> dict[str, Any]:
    owner = model_deployment()
    made = next(
        one for one in desired_state(
            observe(model_deployment(status={"rollout": {"candidate": revision}})),
            operator_settings(), NOW,
        ).objects
        if one["metadata"]["name"] == f"{revision}-directives"
    )  # fmt: skip
    metadata = made["metadata"] | {"creationTimestamp": "2026-01-01T11:00:00Z"}
    times = [{"time": changed}] if changed else []
    assert made["metadata"]["ownerReferences"][0]["uid"] == owner.uid
    return made | {"metadata": metadata | {"managedFields": times}}


@pytest.mark.parametrize(
    ("changed", "created", "said", "stale"),
    [
        (None, "2026-01-01T11:00:00Z", None, False),
        ("2026-01-01T11:00:00Z", "2026-01-01T11:00:00Z", None, False),
        ("2026-01-01T11:30:00Z", "2026-01-01T11:00:00Z", None, True),
        ("2026-01-01T11:30:00Z", "2026-01-01T11:45:00Z", None, False),
        (None, "2026-01-01T11:00:00Z", "current", False),
        (None, "2026-01-01T11:00:00Z", "older", True),
        ("2026-01-01T11:30:00Z", "2026-01-01T11:45:00Z", "older", True),
    ],
)
def test_only_pods_whose_directives_may_be_old_are_told(
    changed: str | None, created: str, said: str | None, stale: bool  # noqa: FBT001
) -> None:  # fmt: skip
    owner = model_deployment()
    revision = revision_of(owner).name
    wanted = directives_hash(owner)
    given = {None: None, "current": wanted, "older": "0" * 16}[said]
    one = pod(
        revision, created=created, annotations={labels.DIRECTIVES_HASH: given} if given else {}
    )
    status = {"rollout": {"state": "Idle"}, "stable": {"revision": revision}}
    seen = observe(model_deployment(status=status), one, _directives(revision, changed))
    plan = desired_state(seen, operator_settings(), NOW)
    expected = {one["metadata"]["name"]: {labels.DIRECTIVES_HASH: wanted}} if stale else {}
    assert plan.pod_annotations == expected


def test_a_plan_that_knows_nothing_prunes_nothing() -> None:
    seen = observe(model_deployment(model={"uri": "ftp://x"}))
    plan = desired_state(seen, operator_settings(), NOW)
    assert list(orphans(seen, plan)) == []
    assert list(orphans(seen, replace(plan, problem=None))) == []
