"""``model.yaml``: what a model's folder says about how it is to be served.

A flag wins over the environment, the environment over the file, the file over the defaults. ``Auto``
in the environment states nothing, so the file may.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.settings import (
    MODEL_NAME_PATTERN,
    DeclaredTensor,
    Device,
    ModelFormat,
    ModelName,
    RuntimeSettings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

CONFIG_FILE: Final = "model.yaml"
_MAX_FILE_BYTES: Final = 1 << 20

_Positive = Annotated[int, Field(gt=0)]
_Milliseconds = Annotated[float, Field(gt=0, le=86_400_000)]
_Axis = Annotated[int, Field(ge=1, le=31)]

_SETTINGS: Final[Mapping[str, str]] = {
    "format": "model_format",
    "inputs": "model_inputs",
    "outputs": "model_outputs",
    "device": "device",
    "engine": "engine",
    "threads": "threads",
    "optimize": "optimize",
    "allow_pickle": "allow_pickle",
    "batching.max_size": "max_batch_size",
    "batching.max_delay_ms": "max_delay_ms",
    "batching.target_latency_ms": "target_latency_ms",
    "batching.buckets": "buckets",
    "queue.max_requests": "max_queue_size",
    "queue.max_bytes": "max_queue_bytes",
    "queue.default_timeout_ms": "request_timeout_s",
    "limits.stream_idle_ms": "stream_idle_s",
    "warmup.iterations": "warmup_iterations",
}
"""Key of the file → the setting that says the same."""


def _default(setting: str) -> Any:
    return RuntimeSettings.model_fields[setting].default


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelTensor(DeclaredTensor):
    """One tensor that the model takes or gives."""

    optional: bool = False
    """Inputs only: a request may leave it out; ``pad_value`` then fills its shape."""
    pad_value: float | bool | str | None = None
    """Inputs only: what padding holds; None pads with zero, or with the empty string."""
    labels: tuple[str, ...] = ()
    """Outputs only: what the positions of the last axis mean."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if isinstance(self.pad_value, str) is not (self.dtype == "BYTES") and (
            self.pad_value is not None
        ):
            raise ValueError(f"pad_value must be a value of {self.dtype}")
        if self.optional and -1 in self.shape[1:]:
            raise ValueError(
                f"an optional input needs fixed inner sizes, shape is {list(self.shape)}"
            )
        if self.labels and self.shape[-1:] not in {(-1,), (len(self.labels),)}:
            raise ValueError(
                f"labels must name {self.shape[-1] if self.shape else 'an axis of'} positions, "
                f"there are {len(self.labels)}"
            )
        return self


class VersionPolicy(_Strict):
    """Which of the folders with integer names are served."""

    policy: Literal["latest", "all", "specific"] = "latest"
    n: _Positive = 1
    """``latest``: how many."""
    only: tuple[_Positive, ...] = ()
    """``specific``: which."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if bool(self.only) is not (self.policy == "specific"):
            raise ValueError("'only' lists the versions of policy 'specific', and of no other")
        if "n" in self.model_fields_set and self.policy != "latest":
            raise ValueError("'n' counts the versions of policy 'latest', and of no other")
        return self


class CompileOptions(_Strict):
    """Arguments of ``torch.compile``."""

    mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    dynamic: bool | None = None
    fullgraph: bool = False


class SequenceBatching(_Strict):
    """How sequences of different lengths come together."""

    input: Annotated[str, Field(min_length=1)]
    """The input whose axis is padded."""
    axis: _Axis = 1
    buckets: Annotated[tuple[_Positive, ...], Field(min_length=1)]
    """Lengths that sequences are padded to."""
    mask: str | None = None
    """An input that is 1 where the sequence is and 0 where the padding; a request may leave it out."""
    also: tuple[str, ...] = ()
    """Inputs that are as long, and are padded with it."""
    outputs: tuple[str, ...] | None = None
    """Outputs that are as long; None: those that leave the axis open and come out as long."""

    @field_validator("buckets")
    @classmethod
    def _ascending(cls, buckets: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(buckets)))


class Batching(_Strict):
    """How requests come together; as the settings of the same names."""

    max_size: _Positive = _default("max_batch_size")
    max_delay_ms: Annotated[float, Field(ge=0, le=60_000)] = _default("max_delay_ms")
    target_latency_ms: Annotated[float, Field(gt=0, le=60_000)] | None = None
    buckets: tuple[_Positive, ...] = ()
    sequence: SequenceBatching | None = None

    @field_validator("buckets")
    @classmethod
    def _ascending(cls, buckets: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(buckets)))


class Queue(_Strict):
    """How much may wait, and how long."""

    max_requests: _Positive = _default("max_queue_size")
    max_bytes: _Positive = _default("max_queue_bytes")
    default_timeout_ms: _Milliseconds = _default("request_timeout_s") * 1000
    """Deadline of requests that state none."""


class Cache(_Strict):
    """Answers that are kept."""

    enabled: bool = False
    ttl_s: Annotated[float, Field(gt=0)] = 300.0
    max_bytes: _Positive = 64 * 1024 * 1024


class Warmup(_Strict):
    """Requests before the first one."""

    iterations: _Positive = _default("warmup_iterations")


class Limits(_Strict):
    """What one request may ask for."""

    max_elements: _Positive | None = None
    """Elements of all its tensors together."""
    stream_idle_ms: _Milliseconds = _default("stream_idle_s") * 1000
    """Longest silence of a stream."""


class ModelConfig(_Strict):
    """How one model is served: its ``model.yaml``, completed from the settings."""

    name: ModelName | None = None
    format: ModelFormat = "Auto"
    entry: Annotated[str, Field(pattern=r"^[\w.-]+\.py(:[A-Za-z_]\w*)?$")] | None = None
    """``handler.py:MyModel``: the file in the model's folder, and what in it is the model."""
    kwargs: dict[str, Any] = {}
    """Arguments of ``entry``."""
    versions: VersionPolicy = VersionPolicy()
    device: Device = "Auto"
    engine: Literal["Auto", "Thread", "Process"] = "Auto"
    dtype: Literal["Auto", "FP32", "FP16", "BF16"] = "Auto"
    """What a torch model computes in; ``Auto``: as it was saved."""
    threads: _Positive | None = None
    optimize: Literal["Auto", "Off"] = "Auto"
    compile: CompileOptions | None = None
    inputs: tuple[ModelTensor, ...] = ()
    outputs: tuple[ModelTensor, ...] = ()
    batching: Batching = Batching()
    queue: Queue = Queue()
    cache: Cache = Cache()
    warmup: Warmup = Warmup()
    limits: Limits = Limits()
    allow_pickle: bool = False
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    """Of the artifact, as the contract defines it; checked before anything of it is loaded."""

    @field_validator("inputs", "outputs")
    @classmethod
    def _distinct(cls, tensors: tuple[ModelTensor, ...]) -> tuple[ModelTensor, ...]:
        names = [tensor.name for tensor in tensors]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is declared twice")
        return tensors

    @field_validator("inputs")
    @classmethod
    def _labels_are_for_outputs(cls, tensors: tuple[ModelTensor, ...]) -> tuple[ModelTensor, ...]:
        if any(tensor.labels for tensor in tensors):
            raise ValueError("labels belong to outputs")
        return tensors

    @field_validator("outputs")
    @classmethod
    def _padding_is_for_inputs(cls, tensors: tuple[ModelTensor, ...]) -> tuple[ModelTensor, ...]:
        if any(tensor.optional or tensor.pad_value is not None for tensor in tensors):
            raise ValueError("optional and pad_value belong to inputs")
        return tensors


def read_config(place: Path, settings: RuntimeSettings) -> ModelConfig:
    """Read a model's ``model.yaml``, if there is one, and complete it.

    Args:
        place: The model's folder, or a file, which has no configuration.
        settings: The environment and the flags.

    Returns:
        The configuration.

    Raises:
        StartupError: ``InvalidSettings``: the file is not YAML, or a key is unknown or wrong.
    """
    path = place / CONFIG_FILE
    document = _read(path) if path.is_file() else {}
    for stray in place.glob(f"*/{CONFIG_FILE}"):
        if stray.parent.name.isdecimal():
            raise _invalid(stray, f"it belongs beside the folders of versions, into {place.name}")
    if document.get("allow_pickle") and "digest" not in document:
        raise _invalid(path, "allow_pickle: needs digest, the artifact's sha256")
    try:
        config = ModelConfig.model_validate(_completed(document, settings, explicit=False))
        return ModelConfig.model_validate(
            _completed(config.model_dump(exclude_unset=True), settings, explicit=True)
        )
    except ValidationError as error:
        raise _invalid(path, _problems(error)) from None


def stated_name(place: Path) -> str | None:
    """Look up which name a model's folder wants to be served under.

    Args:
        place: The model's folder, or a file, which states nothing.

    Returns:
        The name; None when there is none, or when the file is wrong, which ``read_config`` tells.
    """
    path = place / CONFIG_FILE
    try:
        name = _read(path).get("name") if path.is_file() else None
    except StartupError:
        return None
    return name if isinstance(name, str) and re.fullmatch(MODEL_NAME_PATTERN, name) else None


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise _invalid(path, f"it is larger than {_MAX_FILE_BYTES} bytes")
    try:
        document = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _invalid(path, f"not YAML: {' '.join(str(error).split())[:300]}") from None
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise _invalid(path, f"expected keys and values, got {_shown(document)}")
    return document


def _completed(
    document: Mapping[str, Any], settings: RuntimeSettings, *, explicit: bool
) -> dict[str, Any]:
    """Fill what the file leaves out; or let what was set explicitly win over the file."""
    complete = dict(document)
    for key, name in _SETTINGS.items():
        group, _, leaf = key.rpartition(".")
        holder = complete
        if group:
            inner = complete.setdefault(group, {})
            if not isinstance(inner, dict):
                continue  # pydantic says what is wrong
            holder = complete[group] = dict(inner)
        value = getattr(settings, name)
        states = name in settings.model_fields_set and value != "Auto"
        if states if explicit else leaf not in holder:
            holder[leaf] = _as_document(leaf, value)
    return complete


def _as_document(leaf: str, value: Any) -> Any:
    if leaf in {"inputs", "outputs"}:
        return [tensor.model_dump() for tensor in value]
    return value * 1000 if leaf in {"default_timeout_ms", "stream_idle_ms"} else value


def _problems(error: ValidationError) -> str:
    return "; ".join(_problem(found) for found in error.errors()[:5])


def _problem(found: Any) -> str:
    where = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"{where}: unknown key, known are {', '.join(_known(found['loc']))}"
    message = found["msg"].removeprefix("Value error, ")
    return f"{where or 'the file'}: {message}, got {_shown(found['input'])}"


def _known(location: tuple[Any, ...]) -> list[str]:
    fields: Mapping[str, Any] = ModelConfig.model_fields
    for part in location[:-1]:
        if isinstance(part, str) and part in fields:
            fields = _fields_of(fields[part].annotation)
    return sorted(fields)


def _fields_of(annotation: Any) -> Mapping[str, Any]:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate.model_fields
    return {}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"  # noqa: PLR2004 - one line of a log


def _invalid(path: Path, problem: str) -> StartupError:
    return StartupError(
        Reason.INVALID_SETTINGS,
        f"{path.parent.name}/{path.name}: {problem}",
        hint="See docs/reference/model-yaml.md for every key.",
    )
