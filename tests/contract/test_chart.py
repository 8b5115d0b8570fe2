"""The chart's files against each other and against the operator's code; needs no helm."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from modelyard_operator import __version__
from modelyard_operator.settings import OperatorSettings
from testkit.chart import CHART, ROOT

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
METADATA = yaml.safe_load((CHART / "Chart.yaml").read_text())
ROW = re.compile(r"^\| `([\w.]+)` \| (.+?) \| (.+) \|$", re.MULTILINE)


def _leaves(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the paths of values that are documented one by one."""
    for name, value in values.items():
        where = f"{path}{name}"
        child = schema["properties"][name]
        if isinstance(value, dict) and "properties" in child and where != "resources":
            yield from _leaves(value, child, f"{where}.")
        else:
            yield where


def test_the_crd_in_the_chart_is_the_crd() -> None:
    command = [sys.executable, str(ROOT / "tools" / "sync_crds.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_chart_has_the_operator_s_version() -> None:
    assert METADATA["version"] == METADATA["appVersion"] == __version__


def test_every_object_of_the_schema_is_closed() -> None:
    def objects(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if "properties" in schema and path != "values.extraEnv[]":
            yield path, schema
        for name, child in schema.get("properties", {}).items():
            yield from objects(child, f"{path}.{name}")
        if "items" in schema:
            yield from objects(schema["items"], f"{path}[]")

    open_ones = [
        path
        for path, one in objects(SCHEMA, "values")
        if one.get("additionalProperties") is not False
    ]
    assert open_ones == []


def test_the_schema_knows_exactly_the_values() -> None:
    def names(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        known = set(schema["properties"]) - {"global", "claims"}
        assert known == set(values), path
        for name, value in values.items():
            if isinstance(value, dict) and "properties" in schema["properties"][name]:
                names(schema["properties"][name], value, f"{path}{name}.")

    names(SCHEMA, VALUES, "")


def test_the_readme_lists_every_value_with_its_default() -> None:
    rows = {match[1]: match[2] for match in ROW.finditer((CHART / "README.md").read_text())}
    assert list(rows) == list(_leaves(VALUES, SCHEMA))
    for path, shown in rows.items():
        value: Any = VALUES
        for name in path.split("."):
            value = value[name]
        if not shown.startswith("see "):
            assert yaml.safe_load(shown.strip("`")) == value, path


def test_profiles_levels_and_policies_are_those_of_the_settings() -> None:
    properties = OperatorSettings.model_json_schema()["properties"]
    chart = SCHEMA["properties"]
    profiles = properties["ingress_class_profiles"]["additionalProperties"]["enum"]
    assert chart["ingressClassProfiles"]["additionalProperties"]["enum"] == profiles
    assert chart["logLevel"]["enum"] == properties["log_level"]["enum"]
    policies = properties["runtime_image_pull_policy"]["enum"]
    assert chart["runtime"]["properties"]["pullPolicy"]["enum"] == policies


def test_the_artifact_hub_example_is_of_the_version_that_is_served() -> None:
    examples = yaml.safe_load(METADATA["annotations"]["artifacthub.io/crdsExamples"])
    crds = yaml.safe_load(METADATA["annotations"]["artifacthub.io/crds"])
    for example, crd in zip(examples, crds, strict=True):
        assert example["apiVersion"] == f"modelyard.dev/{crd['version']}"
        assert example["kind"] == crd["kind"]
