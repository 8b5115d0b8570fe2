"""The files of a revision: what the spec names in ConfigMaps, under the names that its pods see.

They are copied when a revision is made. A later edit of a ConfigMap leads to another revision.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modelyard_operator.errors import InvalidSpecError
from modelyard_operator.spec import FileRef, ModelDeploymentSpec

HANDLER: Final = "handler.py"
LIMIT_BYTES: Final = 700_000
"""All files of a revision, which share its record with the pod template, where quotes count twice."""

Contents = Mapping[str, str]


class ReferenceNotFoundError(InvalidSpecError):
    """The spec names a ConfigMap or a key of one that does not exist (yet)."""

    reason = "ReferenceNotFound"
    hint = "create the ConfigMap with this key in the same namespace; the operator notices at once"
    permanent = False


class FilesTooLargeError(InvalidSpecError):
    """The files do not fit into one object of the API server."""

    reason = "FilesTooLarge"
    hint = "record fewer or smaller requests"


@dataclass(frozen=True)
class File:
    """One file that the spec asks for.

    Attributes:
        name: Its name in the folder of files.
        field: The field that asks for it.
        source: Where its content is.
    """

    name: str
    field: str
    source: FileRef


def warmup_files(spec: ModelDeploymentSpec) -> tuple[File, ...]:
    """Return the files with requests that are answered before readiness."""
    return _numbered("warmup", "spec.runtime.warmup.requests", spec.runtime.warmup.requests)


def verification_files(spec: ModelDeploymentSpec) -> tuple[File, ...]:
    """Return the files with golden requests."""
    verification = spec.rollout.verification
    requests = verification.requests if verification else ()
    return _numbered("verification", "spec.rollout.verification.requests", requests)


def config_map_names(spec: ModelDeploymentSpec) -> frozenset[str]:
    """Return the ConfigMaps that a spec takes files from, and whom the proxies trust."""
    tls = spec.exposure.backend_tls
    named = frozenset(file.source.config_map_name for file in _files(spec))
    return named | ({tls.ca_config_map_name} if tls else set())


def read_files(
    spec: ModelDeploymentSpec, config_maps: Mapping[str, Contents | None]
) -> dict[str, str]:
    """Return the files of the revision that a spec asks for, by name.

    Args:
        spec: The user's wishes.
        config_maps: ``data`` of each ConfigMap that the spec names; None where there is no such one.

    Raises:
        ReferenceNotFoundError: A ConfigMap or a key is missing; the message names the field.
        FilesTooLargeError: Together they are more than an object of the API server holds.
    """
    contents = {file.name: _content(file, config_maps) for file in _files(spec)}
    size = sum(len(content.encode()) for content in contents.values())
    if size > LIMIT_BYTES:
        raise FilesTooLargeError(
            f"spec: expected at most {LIMIT_BYTES} bytes in all files of a revision, got {size}"
        )
    return contents


def files_hash(files: Contents) -> str:
    """Return 16 hex digits that stand for names and contents."""
    canonical = json.dumps(files, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _files(spec: ModelDeploymentSpec) -> Iterator[File]:
    if spec.runtime.handler_ref:
        yield File(HANDLER, "spec.runtime.handlerRef", spec.runtime.handler_ref)
    yield from warmup_files(spec)
    yield from verification_files(spec)


def _numbered(stem: str, field: str, sources: Sequence[FileRef]) -> tuple[File, ...]:
    return tuple(
        File(f"{stem}-{number}.json", f"{field}[{number}]", source)
        for number, source in enumerate(sources)
    )


def _content(file: File, config_maps: Mapping[str, Contents | None]) -> str:
    name, key = file.source.config_map_name, file.source.key
    data = config_maps.get(name)
    if data is None:
        raise ReferenceNotFoundError(
            f"{file.field}: expected a ConfigMap {name!r} with the key {key!r}, got no such ConfigMap"
        )
    if key not in data:
        known = ", ".join(map(repr, sorted(data))) or "none"
        raise ReferenceNotFoundError(
            f"{file.field}: expected the key {key!r} as text in ConfigMap {name!r}, got the keys: {known}"
        )
    return data[key]
