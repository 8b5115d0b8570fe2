from typing import Any

import pytest

from modelyard_operator.errors import InvalidSpecError
from modelyard_operator.spec import ModelDeployment
from testkit.operator_objects import model_deployment, raw_model_deployment


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"model": {}}, r"spec\.model\.uri: Field required, got \{\}"),
        ({"replicas": "many"}, r"spec\.replicas: .*integer.*, got 'many'"),
        ({"rollout": {"steps": [{"weight": "x"}]}}, r"spec\.rollout\.steps\.0\.weight: .*got 'x'"),
        ({"model": {"uri": "s3://a", "format": "Keras"}}, r"spec\.model\.format: .*got 'Keras'"),
    ],
)
def test_what_does_not_parse_is_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        model_deployment(**spec)


def test_an_object_without_a_spec_is_told_apart() -> None:
    raw = raw_model_deployment()
    raw["spec"] = None
    with pytest.raises(InvalidSpecError, match=r"spec\.model: Field required"):
        ModelDeployment.parse(raw)


def test_what_is_not_there_yet_is_empty() -> None:
    raw = raw_model_deployment()
    raw["status"] = None
    raw["metadata"]["annotations"] = None
    parsed = ModelDeployment.parse(raw)
    assert (parsed.status, parsed.annotations) == ({}, {})


def test_fields_of_a_newer_schema_are_ignored() -> None:
    assert model_deployment(shadow={"percent": 1}).spec == model_deployment().spec


def test_a_quantity_may_be_a_number() -> None:
    spec = model_deployment(resources={"requests": {"cpu": 2}, "limits": {"cpu": "1.5"}}).spec
    assert (spec.resources.requests, spec.resources.limits) == ({"cpu": "2"}, {"cpu": "1.5"})


def test_the_served_name_defaults_to_the_object_s() -> None:
    assert model_deployment("fraud").served_name == "fraud"
    assert model_deployment(model={"uri": "s3://a", "name": "other"}).served_name == "other"
