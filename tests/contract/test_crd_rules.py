"""What the API server is told about sizes, names and columns; the rules themselves run against a
real one in tests/cluster/test_manifests.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelyard_operator.resources import labels
from modelyard_operator.resources.pod_overrides import (
    CLOSED_CONTAINER_FIELDS,
    CLOSED_VOLUME_SOURCES,
    OPEN_POD_FIELDS,
    RESERVED_LABEL_PREFIXES,
)
from modelyard_operator.rollout.routing import Backends
from modelyard_operator.runtime_contract import runtime_environment
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.spec import ModelDeployment, ModelDeploymentSpec
from modelyard_operator.traffic.ingress import render_ingresses
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import resolve_proxy
from testkit.crd import CRD_FILE, ROOT, load_crd, object_schema, spec_schema, status_schema, walk

Schema = dict[str, Any]
INVALID = sorted((ROOT / "tests" / "data" / "invalid").glob("*.yaml"))
SIZE_LIMIT = 100_000


def _rules(schema: Schema) -> str:
    return " ".join(rule["rule"] for rule in schema["x-kubernetes-validations"])


def _field(path: str) -> Schema:
    (found,) = [schema for where, schema in walk(object_schema(), "") if where == f".{path}"]
    return found


def test_the_file_stays_small() -> None:
    assert CRD_FILE.stat().st_size < SIZE_LIMIT


def test_names_are_those_of_the_design() -> None:
    spec = load_crd()["spec"]
    assert (spec["group"], spec["scope"]) == ("modelyard.dev", "Namespaced")
    assert spec["names"]["plural"] == "modeldeployments"
    assert spec["names"]["shortNames"] == ["mdep"]
    assert spec["names"]["categories"] == ["modelyard"]
    assert load_crd()["metadata"]["name"] == "modeldeployments.modelyard.dev"


def test_columns_and_scale_read_fields_that_exist() -> None:
    (version,) = load_crd()["spec"]["versions"]
    columns = {one["name"]: one["jsonPath"] for one in version["additionalPrinterColumns"]}
    assert list(columns) == [
        "Ready",
        "Reason",
        "Stable",
        "Candidate",
        "Weight",
        "Replicas",
        "URL",
        "Age",
    ]
    known = {path for path, _ in walk(object_schema(), "")}
    scale = version["subresources"]["scale"].values()
    for path in (*columns.values(), *scale):
        if path != ".metadata.creationTimestamp":
            assert path.replace('[?(@.type=="Ready")]', "[]") in known, path


def test_no_description_runs_into_a_key() -> None:
    known = {
        "type", "format", "enum", "default", "description", "pattern", "properties", "required",
        "items", "additionalProperties", "anyOf", "minimum", "maximum", "minLength", "maxLength",
        "minItems", "maxItems", "maxProperties",
    }  # fmt: skip
    for path, child in walk(object_schema(), ""):
        stray = {key for key in child if key not in known and not key.startswith("x-kubernetes-")}
        assert stray == set(), path


@pytest.mark.parametrize("root", ["spec", "status"])
def test_everything_has_a_limit(root: str) -> None:
    schema = {"spec": spec_schema(), "status": status_schema()}[root]
    limits = {"string": ("maxLength", "enum", "format"), "array": ("maxItems",)}
    unlimited = [
        path
        for path, child in walk(schema, root)
        if not any(limit in child for limit in limits.get(child.get("type", ""), (..., "type")))
        and child.get("description") != "Refused"
        and "x-kubernetes-int-or-string" not in child
    ]
    assert unlimited == []
    maps = [(path, child) for path, child in walk(schema, root) if "additionalProperties" in child]
    assert [path for path, child in maps if "maxProperties" not in child] == []
    numbers = [
        path
        for path, child in walk(spec_schema(), "spec")
        if child.get("type") == "integer"
        and "minimum" not in child
        and not path.startswith(("spec.podTemplate", "spec.scheduling.tolerations"))
    ]
    assert numbers == []


def test_every_list_says_how_it_merges() -> None:
    for path, child in (*walk(spec_schema(), "spec"), *walk(status_schema(), "status")):
        if child.get("type") != "array" or child.get("description") == "Refused":
            continue
        kind = child.get("x-kubernetes-list-type")
        assert kind in {"atomic", "set", "map"}, path
        if kind == "map":
            keys = set(child["x-kubernetes-list-map-keys"])
            assert keys <= set(child["items"]["required"]), path


def test_every_rule_has_a_message() -> None:
    rules = [
        (path, rule)
        for path, child in walk(object_schema(), "")
        for rule in child.get("x-kubernetes-validations", ())
    ]
    assert len(rules) > 50
    for path, rule in rules:
        assert "\n" not in rule["message"], path
        assert len(rule["message"]) > 10, path


def test_the_pod_s_open_fields_are_the_operator_s() -> None:
    spec = spec_schema()["properties"]["podTemplate"]["properties"]["spec"]
    refused = {name for name in spec["properties"] if f"!has(self.{name})" in _rules(spec)}
    assert set(spec["properties"]) - refused == OPEN_POD_FIELDS
    for name in refused:
        assert spec["properties"][name]["description"] == "Refused"
    # A field of a newer Kubernetes reaches the operator, which reports it, and is not dropped.
    assert spec["x-kubernetes-preserve-unknown-fields"] is True


def test_containers_volumes_and_labels_are_closed_as_in_the_operator() -> None:
    for field in ("containers", "initContainers"):
        rules = _rules(_field(f"spec.podTemplate.spec.{field}[]"))
        for name in CLOSED_CONTAINER_FIELDS:
            assert f"!has(self.{name})" in rules
    for name in CLOSED_VOLUME_SOURCES:
        assert f"!has(self.{name})" in _rules(_field("spec.podTemplate.spec.volumes[]"))
    for field in ("labels", "annotations"):
        for prefix in RESERVED_LABEL_PREFIXES:
            assert f"k.startsWith('{prefix}')" in _rules(
                _field(f"spec.podTemplate.metadata.{field}")
            )


def _model_deployment() -> ModelDeployment:
    spec = {"model": {"uri": "s3://models/fraud"}, "exposure": {"hosts": ["fraud.example.com"]}}
    metadata = {
        "name": "fraud",
        "namespace": "ml",
        "uid": "1",
        "generation": 1,
        "resourceVersion": "1",
    }
    return ModelDeployment.parse({"metadata": metadata, "spec": spec})


def test_annotations_that_the_operator_writes_are_refused() -> None:
    model_deployment = _model_deployment()
    settings = OperatorSettings(ingress_class_profiles={"nginx": "traefik-nginx"})
    exposure = model_deployment.spec.exposure.model_copy(update={"ingress_class_name": "nginx"})
    plan = TrafficPlan(
        exposure=exposure,
        proxy=resolve_proxy(exposure, settings),
        backends=Backends(primary="fraud-a", canary="fraud-b", weight=5),
    )
    rules = _rules(_field("spec.exposure.annotations"))
    ingresses = render_ingresses(model_deployment, plan)
    assert len(ingresses) == 4
    for ingress in ingresses:
        for key in ingress["metadata"]["annotations"]:
            canary = key.startswith("nginx.ingress.kubernetes.io/canary")
            assert f"'{key}'" in rules or canary, key
    assert "k.startsWith('nginx.ingress.kubernetes.io/canary')" in rules


def test_variables_that_the_operator_sets_share_the_refused_prefix() -> None:
    spec = ModelDeploymentSpec.model_validate({"model": {"uri": "s3://models/fraud"}})
    for name in runtime_environment(spec, "fraud", revision="fraud-a", version="1"):
        assert name.startswith("MODELYARD_")
    assert "self.name.startsWith('MODELYARD_')" in _rules(_field("spec.runtime.env[]"))


def test_the_selector_fits_its_status_field() -> None:
    assert (
        len(labels.MODEL_DEPLOYMENT) + 64 < status_schema()["properties"]["selector"]["maxLength"]
    )


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid_manifests_name_what_they_expect(path: Path) -> None:
    first, _, body = path.read_text().partition("\n")
    assert first.startswith("# expect: ")
    assert yaml.safe_load(body)["kind"] == "ModelDeployment"
    assert len(json.dumps(first)) > len("# expect: ") + 10


def test_there_are_enough_invalid_manifests() -> None:
    assert len(INVALID) >= 30


def test_every_rule_has_a_manifest_that_breaks_it() -> None:
    expected = [path.read_text().partition("\n")[0] for path in INVALID]
    unbroken = [
        (path, rule["message"])
        for path, child in walk(object_schema(), "")
        for rule in child.get("x-kubernetes-validations", ())
        # One refused field of the pod stands for the others, which have the same rule.
        if not rule["message"].startswith("is not allowed here")
        and not any(rule["message"][:16] in first for first in expected)
    ]
    assert unbroken == []
