import copy
from typing import Any

import pytest

from modelyard_operator.errors import InvalidSpecError
from modelyard_operator.resources.pod_overrides import merge_pod_overrides
from modelyard_operator.spec import PodTemplateSpec

BASE: dict[str, Any] = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "containers": [
            {
                "name": "runtime",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "resources": {"limits": {"memory": "1Gi"}},
                "command": ["python"],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}


def merged(**overrides: Any) -> dict[str, Any]:
    base = copy.deepcopy(BASE)
    made = merge_pod_overrides(base, PodTemplateSpec.model_validate(overrides))
    assert base == BASE, "the template that was given is changed"
    return made


def test_nothing_changes_nothing() -> None:
    assert merged() == BASE


def test_maps_merge_by_key() -> None:
    made = merged(metadata={"labels": {"b": "2"}, "annotations": {"c": "3"}})["metadata"]
    assert made == {"labels": {"a": "1", "b": "2"}, "annotations": {"c": "3"}}


def test_named_lists_merge_by_name_and_keep_their_order() -> None:
    change = {
        "name": "runtime",
        "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
        "resources": {"limits": {"cpu": "1"}},
        "command": ["sh"],
    }
    first, second = merged(spec={"containers": [change, {"name": "side"}]})["spec"]["containers"]
    assert [(one["name"], one["value"]) for one in first["env"]] == [
        ("A", "1"),
        ("B", "3"),
        ("C", "4"),
    ]
    assert first["resources"] == {"limits": {"memory": "1Gi", "cpu": "1"}}
    assert first["command"] == ["sh"]
    assert second == {"name": "side"}


def test_a_volume_of_the_same_name_gains_fields() -> None:
    size = {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}
    extra = {"name": "extra", "secret": {"secretName": "x"}}
    assert merged(spec={"volumes": [size, extra]})["spec"]["volumes"] == [size, extra]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"spec": {"hostNetwork": True}}, r"podTemplate\.spec\.hostNetwork: not open.*volumes"),
        ({"spec": {"securityContext": {}}}, r"podTemplate\.spec\.securityContext"),
        ({"metadata": {"name": "x"}}, r"podTemplate\.metadata\.name: not open.*labels"),
        ({"metadata": {"labels": {"modelyard.dev/x": ""}}}, r"metadata\.labels: modelyard\.dev/x"),
        (
            {"metadata": {"annotations": {"modelyard.dev/x": ""}}},
            r"metadata\.annotations: modelyard\.dev/x belongs",
        ),
        (
            {"metadata": {"labels": {"app.kubernetes.io/managed-by": ""}}},
            r"app\.kubernetes\.io/managed-by",
        ),
        (
            {"spec": {"containers": [{"name": "x", "securityContext": {}}]}},
            r"containers\[x\]\.securityContext: not open",
        ),
        (
            {"spec": {"initContainers": [{"name": "x", "securityContext": {}}]}},
            r"initContainers\[x\]\.securityContext",
        ),
        (
            {"spec": {"volumes": [{"name": "v", "hostPath": {}}]}},
            r"volumes\[v\]\.hostPath: not open",
        ),
        ({"spec": {"containers": {"name": "x"}}}, r"containers: expected a list, got dict"),
        ({"spec": {"volumes": [{"emptyDir": {}}]}}, r"volumes: each item needs a name"),
        ({"spec": {"volumes": ["v"]}}, r"volumes: each item needs a name, got 'v'"),
        (
            {"spec": {"containers": [{"name": "x", "env": [{"value": "1"}]}]}},
            r"containers\[x\]\.env: each item needs a name",
        ),
    ],
)
def test_what_is_closed_is_named(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        merged(**overrides)
