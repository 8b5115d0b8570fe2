"""All that the two programs read from their environment, typed and in units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from modelyard_runtime.errors import Reason, StartupError

ModelFormat = Literal[
    "Auto",
    "TorchExport",
    "TorchScript",
    "TorchEager",
    "Safetensors",
    "ONNX",
    "Sklearn",
    "XGBoost",
    "LightGBM",
    "MLflow",
    "HuggingFace",
    "Custom",
]
Device = Literal["Auto", "CPU", "CUDA"]

MODEL_NAME_PATTERN: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$"
"""A served name is a folder and a URL segment, so it holds neither slashes nor dots alone."""

ModelName = Annotated[str, Field(pattern=MODEL_NAME_PATTERN)]
Port = Annotated[int, Field(ge=0, le=65535)]
OwnPort = Annotated[int, Field(ge=1, le=65535)]
Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
    "BYTES",
]


class DeclaredTensor(BaseModel):
    """One tensor that a user says the model takes or gives; ``spec.model.inputs`` and ``outputs``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=256)]
    dtype: Datatype
    shape: tuple[Annotated[int, Field(ge=-1)], ...]
    """Sizes; -1 is any size."""


class _Shared(BaseSettings):
    """What both programs read."""

    model_config = SettingsConfigDict(
        env_prefix="MODELYARD_", frozen=True, extra="ignore", protected_namespaces=()
    )

    model_repository: Path = Path("/models")
    """The folder that holds ``<name>/<version>/``."""
    model_version: str = "1"
    """Version label in headers, metrics and status."""
    revision: str = ""
    """Revision, in headers, metrics and status."""
    metrics_port: Port = 8082
    """Port of ``/metrics`` and ``/status``; 0 takes a free one."""
    termination_log: Path = Path("/dev/termination-log")
    """Where the last word goes; nothing is written when neither it nor its folder exists."""


class RuntimeSettings(_Shared):
    """The environment of ``modelyard-runtime serve``.

    References:
        ``docs/reference/runtime-contract.md``, "Environment of runtime".
    """

    model_name: ModelName | None = None
    """The served name; None serves every model of the repository."""
    model_path: Path | None = None
    """One file or folder to serve instead of the repository; what ``serve PATH`` sets."""
    model_format: ModelFormat = "Auto"
    model_inputs: tuple[DeclaredTensor, ...] = ()
    """What the model takes, where the artifact does not say; checked where it does."""
    model_outputs: tuple[DeclaredTensor, ...] = ()
    handler_file: Path | None = None
    """Python file with hooks around the model."""
    allow_pickle: bool = False
    """Whether formats that run code while loading may load."""
    device: Device = "Auto"
    max_batch_size: PositiveInt = 32
    """Rows in one batch."""
    max_delay_ms: Annotated[float, Field(ge=0, le=60_000)] = 0.0
    """Longest wait for a batch to fill, in milliseconds; 0 is work-conserving."""
    target_latency_ms: Annotated[float, Field(gt=0, le=60_000)] | None = None
    """Latency that the batch cap and the wait follow, in milliseconds; None: no target."""
    buckets: tuple[PositiveInt, ...] = ()
    """Batch sizes that batches are padded to; empty: chosen by the format."""
    max_queue_size: PositiveInt = 512
    """Requests that may wait."""
    max_queue_bytes: PositiveInt = 256 * 1024 * 1024
    """Bytes of tensors that may wait."""
    max_in_flight: PositiveInt = 256
    """Requests that may be inside the process."""
    threads: PositiveInt | None = None
    """Compute threads; None takes them from the cgroup's quota."""
    request_timeout_s: PositiveFloat = 30.0
    """Deadline of one request, in seconds."""
    stream_idle_s: PositiveFloat = 60.0
    """Longest silence of a stream, in seconds."""
    engine: Literal["Auto", "Thread", "Process"] = "Auto"
    """Where the model computes: in a thread of this process, or in a process of its own."""
    http_workers: PositiveInt = 1
    """Processes that speak HTTP in front of one engine."""
    optimize: Literal["Auto", "Off"] = "Auto"
    """``Auto`` tries what makes the model faster and keeps it if the answers agree."""
    warmup_files: tuple[Path, ...] = ()
    """Request files that are answered before the process turns ready."""
    warmup_iterations: PositiveInt = 3
    verification_files: tuple[Path, ...] = ()
    """Golden requests with their answers."""
    verification_tolerance: Annotated[float, Field(ge=0, le=1)] = 1e-3
    """Relative tolerance of golden outputs."""
    keys_dir: Path | None = None
    """Folder of API keys and ``jwks.json``; None: there are no keys."""
    startup_timeout_s: PositiveFloat = 1800.0
    """Longest time for loading and warming, in seconds."""
    drain_timeout_s: Annotated[float, Field(ge=0)] = 45.0
    """Grace and finish after SIGTERM, together, in seconds."""
    control: Literal["none", "explicit"] = "none"
    """``none``: models cannot be loaded or unloaded through the API."""
    tls_cert_file: Path | None = None
    """PEM file; with the key, HTTP and gRPC speak TLS."""
    tls_key_file: Path | None = None
    https_port: OwnPort | None = None
    """Port of its own for HTTP over TLS, beside the one without; None: there is one port, with TLS."""
    grpcs_port: OwnPort | None = None
    """The same for gRPC."""
    directives_file: Path | None = None
    """The hot-reloaded directives; None keeps the built-in defaults."""
    http_host: str = "0.0.0.0"  # noqa: S104 - a pod is reached from outside itself
    http_port: Port = 8080
    grpc_port: Port = 8081

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert_file is None) is not (self.tls_key_file is None):
            raise ValueError("MODELYARD_TLS_CERT_FILE and MODELYARD_TLS_KEY_FILE go together")
        if (self.https_port or self.grpcs_port) and self.tls_cert_file is None:
            raise ValueError(
                "MODELYARD_HTTPS_PORT and MODELYARD_GRPCS_PORT need MODELYARD_TLS_CERT_FILE"
            )
        return self


class FetchSettings(_Shared):
    """The environment of ``python -m modelyard_runtime.fetch``.

    References:
        ``docs/reference/runtime-contract.md``, "Environment of model-fetch".
    """

    model_name: ModelName
    """The served name, which is the folder's."""
    model_uri: str
    """``s3://bucket/prefix``, ``http(s)://…`` or ``pvc://claim/path``."""
    model_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    endpoint_url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """S3 endpoint, for stores other than AWS."""
    include_patterns: tuple[str, ...] = ()
    """Globs on the path below the prefix; empty takes every file."""
    ca_bundle: Path | None = None
    """PEM file of the authorities to trust instead of the built-in ones."""
    claim_path: Path = Path("/mnt/claim")
    """Where the claim of a ``pvc://`` URI is mounted."""


def settings_failure(error: ValidationError) -> StartupError:
    """Say which settings are wrong, and never what a secret holds.

    Args:
        error: What pydantic found.

    Returns:
        ``InvalidSettings``, naming each variable.
    """
    problems = "; ".join(
        f"MODELYARD_{'.'.join(str(part) for part in e['loc']).upper()}: {e['msg']}"
        for e in error.errors()
    )
    return StartupError(
        Reason.INVALID_SETTINGS,
        f"invalid settings: {problems}",
        hint="See docs/reference/runtime-contract.md for every variable.",
    )
