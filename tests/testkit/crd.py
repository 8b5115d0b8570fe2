"""The CRD file as the contract tests read it: its schemas, walked with their paths."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CRD_FILE: Final = ROOT / "crds" / "modeldeployments.yaml"

Schema = dict[str, Any]


def load_crd() -> Schema:
    loaded: Schema = yaml.safe_load(CRD_FILE.read_text())
    return loaded


def object_schema() -> Schema:
    """Schema of the whole object."""
    (version,) = load_crd()["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def spec_schema() -> Schema:
    schema: Schema = object_schema()["properties"]["spec"]
    return schema


def status_schema() -> Schema:
    schema: Schema = object_schema()["properties"]["status"]
    return schema


def walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield every schema below and including one, with the path of its field."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}.*")


def apply_defaults(schema: Schema, value: Any) -> Any:
    """Return a value with the schema's defaults, as the API server fills them in."""
    if isinstance(value, dict):
        filled = dict(value)
        for name, child in schema.get("properties", {}).items():
            if name not in filled and "default" in child:
                filled[name] = child["default"]
            if name in filled:
                filled[name] = apply_defaults(child, filled[name])
        return filled
    if isinstance(value, list):
        return [apply_defaults(schema.get("items", {}), item) for item in value]
    return value
