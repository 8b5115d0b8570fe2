from typing import Any

import pytest

from modelyard_operator.resources.autoscaler import build_autoscaler
from modelyard_operator.resources.config_maps import build_directives, build_files
from modelyard_operator.resources.directives import directives_hash, render_directives
from modelyard_operator.resources.disruption_budget import build_disruption_budget
from modelyard_operator.resources.service import build_cluster_service, selected_revision
from modelyard_operator.resources.workload import build_workload
from modelyard_operator.rollout.sizing import Bounds
from modelyard_operator.spec import ScalingSpec
from testkit.operator_objects import model_deployment, revision_of

SCALING = ScalingSpec.model_validate(
    {
        "maxReplicas": 4,
        "metrics": [{"type": "Resource", "resource": "memory", "target": 80}],
        "behavior": {"scaleDown": {"policies": []}, "scaleUp": {"selectPolicy": "Max"}},
    }
)


def autoscaled(
    minimum: int = 2, *, ceiling: int | None = None, hold: bool = False
) -> dict[str, Any]:
    bounds = Bounds(floor=minimum, ceiling=ceiling, hold=hold)
    made = build_autoscaler(model_deployment(), SCALING, "fraud-a", bounds=bounds)
    spec: dict[str, Any] = made["spec"]
    return spec


def test_the_autoscaler_looks_at_the_runtime_s_container_only() -> None:
    (metric,) = autoscaled()["metrics"]
    assert metric["containerResource"] == {
        "name": "memory",
        "container": "runtime",
        "target": {"type": "Utilization", "averageUtilization": 80},
    }
    assert autoscaled()["scaleTargetRef"]["name"] == "fraud-a"


def test_a_floor_above_the_ceiling_raises_the_ceiling() -> None:
    assert (autoscaled(2)["maxReplicas"], autoscaled(6)["maxReplicas"]) == (4, 6)


def test_a_revision_that_makes_room_may_not_grow() -> None:
    assert autoscaled(1, ceiling=1)["maxReplicas"] == 1


def test_holding_forbids_scaling_down_and_keeps_the_rest() -> None:
    assert autoscaled()["behavior"] == SCALING.behavior
    assert autoscaled(hold=True)["behavior"] == {
        "scaleDown": {"selectPolicy": "Disabled"},
        "scaleUp": {"selectPolicy": "Max"},
    }
    assert "scaleDown" in SCALING.behavior
    assert "policies" in SCALING.behavior["scaleDown"]


@pytest.mark.parametrize(
    ("asked", "spec"),
    [
        ({"maxUnavailable": 2}, {"maxUnavailable": 2}),
        ({"maxUnavailable": 0}, {"maxUnavailable": 0}),
        ({"minAvailable": "50%"}, {"minAvailable": "50%"}),
        ({"minAvailable": 0}, {"minAvailable": 0}),
        ({}, {"maxUnavailable": 1}),
    ],
)
def test_a_disruption_budget_says_one_of_the_two(
    asked: dict[str, Any], spec: dict[str, Any]
) -> None:
    made = build_disruption_budget(model_deployment(podDisruptionBudget=asked), "fraud-a")["spec"]
    assert {key: made[key] for key in made if key != "selector"} == spec


@pytest.mark.parametrize(
    ("path", "prefix"), [("/", ""), ("/models/fraud", "/models/fraud"), ("/m/", "/m")]
)
def test_directives_carry_what_needs_no_new_revision(path: str, prefix: str) -> None:
    owner = model_deployment(exposure={"path": path, "maxBodyBytes": 5})
    assert render_directives(owner) == f'{{"maxBodyBytes": 5, "pathPrefix": "{prefix}"}}'
    made = build_directives(owner, "fraud-a", None)
    assert made["data"] == {"directives.json": render_directives(owner)}
    assert made["metadata"]["name"] == "fraud-a-directives"


def test_the_directives_hash_is_that_of_the_file() -> None:
    one, two = model_deployment(), model_deployment(exposure={"path": "/x"})
    assert directives_hash(one) != directives_hash(two)
    # sha256 of the bytes, the first 16 digits: docs/reference/runtime-contract.md
    assert directives_hash(one) == "be83420f428e8d95"


def test_files_are_immutable() -> None:
    owner = model_deployment()
    bare = build_files(owner, revision_of(owner))
    assert bare["immutable"] is True
    assert "data" not in bare
    made = build_files(owner, revision_of(owner, {"handler.py": "x = 1"}))
    assert made["data"] == {"handler.py": "x = 1"}
    assert made["metadata"]["name"] != bare["metadata"]["name"]


def test_a_service_says_whom_it_selects() -> None:
    made = build_cluster_service(model_deployment(), "fraud-a")
    assert selected_revision(made) == "fraud-a"
    assert selected_revision({"spec": {"selector": None}}) is None
    assert selected_revision({"spec": {"selector": {"modelyard.dev/revision": 1}}}) is None
    assert selected_revision({}) is None


def test_the_workload_leaves_replicas_to_others() -> None:
    owner = model_deployment(runtime={"timeouts": {"startupSeconds": 100}})
    spec = build_workload(owner, revision_of(owner))["spec"]
    assert "replicas" not in spec
    assert spec["progressDeadlineSeconds"] == 160
    labels = spec["template"]["metadata"]["labels"]
    assert labels.items() >= spec["selector"]["matchLabels"].items()
