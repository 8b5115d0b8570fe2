"""``spec.podTemplate`` merged into the rendered template: maps by key, named lists by name."""

from collections.abc import Sequence
from typing import Any, Final

from modelyard_operator.errors import InvalidSpecError
from modelyard_operator.spec import PodTemplateSpec

Manifest = dict[str, Any]

OPEN_POD_FIELDS: Final = frozenset(
    {
        "containers",
        "dnsConfig",
        "dnsPolicy",
        "hostAliases",
        "initContainers",
        "volumes",
    }
)
"""Fields of the pod spec that do not let a tenant leave the restricted profile."""
OPEN_METADATA_FIELDS: Final = frozenset({"annotations", "labels"})
CLOSED_CONTAINER_FIELDS: Final = frozenset({"securityContext"})
CLOSED_VOLUME_SOURCES: Final = frozenset({"hostPath"})
RESERVED_LABEL_PREFIXES: Final = ("modelyard.dev/", "app.kubernetes.io/managed-by")
NAMED_LISTS: Final = frozenset(
    {
        "containers",
        "env",
        "initContainers",
        "volumeMounts",
        "volumes",
    }
)


def merge_pod_overrides(template: Manifest, overrides: PodTemplateSpec) -> Manifest:
    """Merge the user's overrides into a pod template.

    Maps merge key by key, containers, env, volumes and mounts by name; anything else is replaced.

    Raises:
        InvalidSpecError: A field is not open to users; the message names it.
    """
    _check(overrides)
    return _merge(template, {"metadata": overrides.metadata, "spec": overrides.spec})


def _merge(base: Manifest, change: Manifest) -> Manifest:
    merged = dict(base)
    for key, value in change.items():
        current = merged.get(key)
        if isinstance(current, dict) and isinstance(value, dict):
            merged[key] = _merge(current, value)
        elif key in NAMED_LISTS and isinstance(current, list) and isinstance(value, list):
            merged[key] = _merge_named(current, value)
        else:
            merged[key] = value
    return merged


def _merge_named(base: Sequence[Manifest], change: Sequence[Manifest]) -> list[Manifest]:
    merged = {item["name"]: item for item in base}
    for item in change:
        merged[item["name"]] = _merge(merged.get(item["name"], {}), item)
    return list(merged.values())


def _check(overrides: PodTemplateSpec) -> None:
    _check_keys("podTemplate.metadata", overrides.metadata, OPEN_METADATA_FIELDS)
    _check_keys("podTemplate.spec", overrides.spec, OPEN_POD_FIELDS)
    for kind in ("labels", "annotations"):
        for key in overrides.metadata.get(kind) or {}:
            if key.startswith(RESERVED_LABEL_PREFIXES):
                raise InvalidSpecError(f"podTemplate.metadata.{kind}: {key} belongs to Modelyard")
    for field in NAMED_LISTS & overrides.spec.keys():
        _check_named(f"podTemplate.spec.{field}", overrides.spec[field])
    for field in ("containers", "initContainers"):
        for container in overrides.spec.get(field) or ():
            _refuse(f"podTemplate.spec.{field}[{container['name']}]", container)
    for volume in overrides.spec.get("volumes") or ():
        for source in CLOSED_VOLUME_SOURCES & volume.keys():
            raise InvalidSpecError(
                f"podTemplate.spec.volumes[{volume['name']}].{source}: not open to users"
            )
        if _crosses(volume):
            raise InvalidSpecError(
                f"podTemplate.spec.volumes[{volume['name']}]: dataSourceRef.namespace is not open to "
                "users: a model takes nothing from another namespace"
            )


def _crosses(part: object) -> bool:
    """Tell whether a volume is to be filled from another namespace."""
    match part:
        case {"dataSourceRef": {"namespace": _}}:
            return True
        case dict():
            return any(_crosses(value) for value in part.values())
        case list():
            return any(_crosses(value) for value in part)
    return False


def _check_keys(where: str, fields: Manifest, allowed: frozenset[str]) -> None:
    if closed := sorted(fields.keys() - allowed):
        raise InvalidSpecError(
            f"{where}.{closed[0]}: not open to users; open are {', '.join(sorted(allowed))}"
        )


def _check_named(where: str, items: object) -> None:
    if not isinstance(items, list):
        raise InvalidSpecError(f"{where}: expected a list, got {type(items).__name__}")
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise InvalidSpecError(f"{where}: each item needs a name, got {item!r}")


def _refuse(where: str, container: Manifest) -> None:
    for field in CLOSED_CONTAINER_FIELDS & container.keys():
        raise InvalidSpecError(f"{where}.{field}: not open to users")
    for field in NAMED_LISTS & container.keys():
        _check_named(f"{where}.{field}", container[field])
