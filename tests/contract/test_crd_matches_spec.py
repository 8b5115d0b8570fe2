import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from modelyard_operator.rollout.evidence import Counts, Evidence, MetricEvidence
from modelyard_operator.rollout.judgement import Verdict
from modelyard_operator.rollout.state import (
    LastCommand,
    LastRollback,
    PlannedStep,
    Rollout,
    RolloutState,
    ShadowReport,
)
from modelyard_operator.spec import ModelDeploymentSpec
from testkit.crd import ROOT, apply_defaults, spec_schema, status_schema, walk

Schema = dict[str, Any]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
EFFECT = re.compile(
    r"new\s+revision|pplies in\s+place|pplies\s+to\s+the\s+next\s+rollout|keeps the plan"
)
JSON_TYPES = {bool: "boolean", int: "integer", str: "string", float: "number"}


def _pairs(
    model: type[BaseModel], schema: Schema, path: str
) -> Iterator[tuple[str, FieldInfo, Schema]]:
    """Yield each field that both sides have, with its path."""
    for name, field in model.model_fields.items():
        wire = field.alias or name
        child = schema["properties"].get(wire)
        if child is None:
            continue
        yield f"{path}.{wire}", field, child
        inner = _inner_model(field.annotation)
        if inner is not None:
            yield from _pairs(inner, child.get("items", child), f"{path}.{wire}")


def _strip(annotation: Any) -> Any:
    """Return a type without ``None`` and without ``Annotated``."""
    if get_origin(annotation) is Annotated:
        return _strip(get_args(annotation)[0])
    if get_origin(annotation) in {types.UnionType, Union}:
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _strip(members[0]) if len(members) == 1 else tuple(members)
    return annotation


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    stripped = _strip(annotation)
    if get_origin(stripped) is tuple:
        stripped = _strip(get_args(stripped)[0])
    is_model = isinstance(stripped, type) and issubclass(stripped, BaseModel)
    return stripped if is_model else None


def _expected(annotation: Any) -> Schema:
    """Return what the CRD has to say about a type."""
    stripped = _strip(annotation)
    if stripped == (int, str):
        return {"x-kubernetes-int-or-string": True}
    match get_origin(stripped), get_args(stripped):
        case origin, values if origin is Literal:
            return {"type": JSON_TYPES[type(values[0])], "enum": list(values)}
        case origin, (item, *_) if origin is tuple:
            return {"type": "array", "items": _expected(item)}
        case origin, (_, value) if origin is dict:
            return {
                "type": "object",
                **({"additionalProperties": {"type": "string"}} if value is str else {}),
            }
    return {"type": JSON_TYPES.get(stripped, "object")}


def _says(schema: Schema, expected: Schema) -> bool:
    return all(
        _says(schema.get(key, {}), value) if isinstance(value, dict) else schema.get(key) == value
        for key, value in expected.items()
    )


def _wire_names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _models(model: type[BaseModel], schema: Schema, path: str) -> Iterator[tuple[str, Any, Schema]]:
    yield path, model, schema
    for where, field, child in _pairs(model, schema, path):
        inner = _inner_model(field.annotation)
        if inner is not None:
            yield where, inner, child.get("items", child)


MODELS = list(_models(ModelDeploymentSpec, spec_schema(), "spec"))
PAIRS = list(_pairs(ModelDeploymentSpec, spec_schema(), "spec"))


@pytest.mark.parametrize(("path", "model", "schema"), MODELS, ids=[path for path, *_ in MODELS])
def test_both_sides_have_the_same_fields(path: str, model: type[BaseModel], schema: Schema) -> None:
    assert set(schema["properties"]) == _wire_names(model), path


@pytest.mark.parametrize(("path", "model", "schema"), MODELS, ids=[path for path, *_ in MODELS])
def test_both_sides_require_the_same_fields(
    path: str, model: type[BaseModel], schema: Schema
) -> None:
    required = {
        field.alias or name for name, field in model.model_fields.items() if field.is_required()
    }
    assert set(schema.get("required", ())) == required, path


@pytest.mark.parametrize(("path", "field", "schema"), PAIRS, ids=[path for path, *_ in PAIRS])
def test_both_sides_have_the_same_types_and_enums(
    path: str, field: FieldInfo, schema: Schema
) -> None:
    expected = _expected(field.annotation)
    if any(part in path for part in ("resources.requests", "resources.limits")):
        # A quantity may be written as a number; the operator reads it as text.
        expected = {"additionalProperties": {"x-kubernetes-int-or-string": True}}
    assert _says(schema, expected), (path, expected)


def test_the_walk_reaches_the_whole_spec() -> None:
    paths = {path for path, *_ in PAIRS}
    assert {"spec.model.uri", "spec.rollout.steps.weight", "spec.exposure.tls.secretName"} <= paths
    assert len(paths) > 70


def test_stored_defaults_are_the_operator_s_own() -> None:
    bare: dict[str, Any] = {"model": {"uri": "s3://models/fraud"}}
    filled = apply_defaults(spec_schema(), bare)
    theirs = ModelDeploymentSpec.model_validate(bare)
    assert ModelDeploymentSpec.model_validate(filled) == theirs
    # What the operator would fill in by itself is visible in the stored object, too.
    stored = theirs.model_dump(mode="json", by_alias=True, exclude_none=True)
    for step in stored["rollout"]["steps"]:
        assert set(step) == {"weight"}
    assert _without_empty(stored) == _without_empty(filled)


@pytest.mark.parametrize(
    "bare",
    [
        {"accelerator": {}},
        {"scaling": {"maxReplicas": 2, "metrics": []}},
        {"exposure": {"tls": {"secretName": "x"}}},
        {"rollout": {"steps": [{"weight": 100}]}},
        {"podDisruptionBudget": {"minAvailable": "50%"}},
        {"runtime": {"batching": {"maxBatchSize": 1}}},
        {"model": {"uri": "s3://a", "caBundleConfigMapRef": {"name": "ca"}}},
    ],
    ids=lambda bare: next(iter(bare)),
)
def test_defaults_of_optional_parts_are_the_operator_s_own(bare: dict[str, Any]) -> None:
    bare = {"model": {"uri": "s3://a"}} | bare
    filled = apply_defaults(spec_schema(), bare)
    theirs = ModelDeploymentSpec.model_validate(bare)
    stored = theirs.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert _without_empty(stored) == _without_empty(filled)


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_empty(child) for key, child in value.items()}
        return {key: child for key, child in kept.items() if child not in ({}, [])}
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_operator_reads_every_example(path: Path) -> None:
    objects = [one for one in yaml.safe_load_all(path.read_text()) if one]
    specs = [one["spec"] for one in objects if one["kind"] == "ModelDeployment"]
    assert len(specs) == 1
    parsed = ModelDeploymentSpec.model_validate(apply_defaults(spec_schema(), specs[0]))
    assert parsed == ModelDeploymentSpec.model_validate(specs[0])


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6


def test_status_holds_all_that_the_rollout_remembers() -> None:
    rollout = status_schema()["properties"]["rollout"]["properties"]
    # Stable and candidate have a place of their own in status.
    assert set(rollout) == _wire_names(Rollout) - {"stable", "candidate"}
    assert set(rollout["plan"]["items"]["properties"]) == _wire_names(PlannedStep)
    parts: dict[str, type[BaseModel]] = {
        "lastCommand": LastCommand,
        "lastRollback": LastRollback,
        "shadow": ShadowReport,
        "analysis": Evidence,
    }
    for name, model in parts.items():
        assert set(rollout[name]["properties"]) == _wire_names(model), name
    metric = rollout["analysis"]["properties"]["metrics"]["items"]["properties"]
    assert set(metric) == _wire_names(MetricEvidence)
    assert set(metric["stable"]["properties"]) == _wire_names(Counts)
    assert metric["verdict"]["enum"] == [verdict.value for verdict in Verdict]
    assert rollout["state"]["enum"] == [state.value for state in RolloutState]
    reasons = _expected(Rollout.model_fields["paused_reason"].annotation)["enum"]
    assert rollout["pausedReason"]["enum"] == reasons


def test_every_field_is_described() -> None:
    silent = [
        path
        for schema, root in ((spec_schema(), "spec"), (status_schema(), "status"))
        for path, child in walk(schema, root)
        if "description" not in child and not path.endswith(("[]", "*"))
    ]
    assert silent == []


def test_descriptions_say_when_an_edit_takes_effect() -> None:
    said = {path for path, _, schema in PAIRS if EFFECT.search(schema["description"])}
    silent = [
        path
        for path, *_ in PAIRS
        if not any(path == one or path.startswith(f"{one}.") for one in said)
    ]
    assert silent == ["spec.rollout"]  # its fields differ, and each says so itself
