"""What the pod is started with; the other side is ``modelyard_runtime.settings``.

docs/reference/runtime-contract.md is the page that both sides are held to.
"""

import json
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from modelyard_operator.files import HANDLER, File, verification_files, warmup_files
from modelyard_operator.spec import ModelDeploymentSpec, ModelSpec, TensorSpec

HTTP_PORT: Final = 8080
GRPC_PORT: Final = 8081
METRICS_PORT: Final = 8082
HTTPS_PORT: Final = 8443
GRPCS_PORT: Final = 8444
LIVE_PATH: Final = "/v2/health/live"
READY_PATH: Final = "/v2/health/ready"
USER_ID: Final = 65532
MODEL_REPOSITORY: Final = "/models"
DIRECTIVES_DIR: Final = "/etc/modelyard/directives"
DIRECTIVES_KEY: Final = "directives.json"
FILES_DIR: Final = "/etc/modelyard/files"
KEYS_DIR: Final = "/etc/modelyard/keys"
TLS_DIR: Final = "/etc/modelyard/tls"
CA_DIR: Final = "/etc/modelyard/ca"
CA_KEY: Final = "ca.crt"
CLAIM_PATH: Final = "/mnt/claim"
RUNTIME_COMMAND: Final = ("python", "-m", "modelyard_runtime", "serve")
FETCH_COMMAND: Final = ("python", "-m", "modelyard_runtime.fetch")

_TLS_VARIABLES: Final = MappingProxyType(
    {
        "MODELYARD_TLS_CERT_FILE": f"{TLS_DIR}/tls.crt",
        "MODELYARD_TLS_KEY_FILE": f"{TLS_DIR}/tls.key",
        "MODELYARD_HTTPS_PORT": str(HTTPS_PORT),
        "MODELYARD_GRPCS_PORT": str(GRPCS_PORT),
    }
)
SUPPORTED_SCHEMES: Final = frozenset({"s3", "http", "https", "pvc"})


def scheme(uri: str) -> str:
    """Return the URI's scheme in lower case."""
    return uri.partition("://")[0].lower()


def claim_name(uri: str) -> str | None:
    """Return the claim of a ``pvc://claim/path`` URI; None for the other schemes."""
    kind, _, rest = uri.partition("://")
    return rest.partition("/")[0] if kind.lower() == "pvc" else None


def runtime_environment(
    spec: ModelDeploymentSpec, served_name: str, *, revision: str, version: str
) -> dict[str, str]:
    """Environment of the container ``runtime``."""
    runtime = spec.runtime
    environment = {
        "MODELYARD_MODEL_NAME": served_name,
        "MODELYARD_MODEL_VERSION": version,
        "MODELYARD_REVISION": revision,
        "MODELYARD_MODEL_REPOSITORY": MODEL_REPOSITORY,
        "MODELYARD_MODEL_FORMAT": spec.model.format,
        "MODELYARD_ALLOW_PICKLE": str(spec.model.allow_pickle).lower(),
        "MODELYARD_DEVICE": runtime.device,
        "MODELYARD_MAX_IN_FLIGHT": str(runtime.concurrency.max_in_flight_per_replica),
        "MODELYARD_REQUEST_TIMEOUT_S": str(runtime.timeouts.request_seconds),
        "MODELYARD_STREAM_IDLE_S": str(runtime.timeouts.stream_idle_seconds),
        "MODELYARD_STARTUP_TIMEOUT_S": str(runtime.timeouts.startup_seconds),
        "MODELYARD_DRAIN_TIMEOUT_S": str(runtime.timeouts.drain_seconds),
        "MODELYARD_CONTROL": "none",
        "MODELYARD_HTTP_PORT": str(HTTP_PORT),
        "MODELYARD_GRPC_PORT": str(GRPC_PORT),
        "MODELYARD_METRICS_PORT": str(METRICS_PORT),
        "MODELYARD_DIRECTIVES_FILE": f"{DIRECTIVES_DIR}/{DIRECTIVES_KEY}",
        "MODELYARD_KEYS_DIR": KEYS_DIR,
    }
    return environment | _optional_environment(spec)


def _optional_environment(spec: ModelDeploymentSpec) -> dict[str, str]:
    """What only some specs set; else ``model.yaml`` of the artifact and then the runtime decide."""
    batching, verification = spec.runtime.batching, spec.rollout.verification
    variables = {
        "MODELYARD_MODEL_INPUTS": _tensors(spec.model.inputs),
        "MODELYARD_MODEL_OUTPUTS": _tensors(spec.model.outputs),
        "MODELYARD_HANDLER_FILE": f"{FILES_DIR}/{HANDLER}" if spec.runtime.handler_ref else None,
        "MODELYARD_MAX_BATCH_SIZE": _text(batching.max_batch_size),
        "MODELYARD_MAX_DELAY_MS": _text(batching.max_delay_milliseconds),
        "MODELYARD_MAX_QUEUE_SIZE": _text(batching.max_queue_size),
        "MODELYARD_TARGET_LATENCY_MS": _text(batching.target_latency_milliseconds),
        # A set: another order is no other revision.
        "MODELYARD_BUCKETS": json.dumps(sorted(batching.buckets)) if batching.buckets else None,
        "MODELYARD_THREADS": _text(spec.runtime.concurrency.threads),
        "MODELYARD_WARMUP_FILES": _paths(warmup_files(spec)),
        "MODELYARD_WARMUP_ITERATIONS": _text(spec.runtime.warmup.iterations),
        "MODELYARD_VERIFICATION_FILES": _paths(verification_files(spec)),
        "MODELYARD_VERIFICATION_TOLERANCE": str(float(verification.relative_tolerance))
        if verification
        else None,
        **(_TLS_VARIABLES if spec.exposure.backend_tls else {}),
    }
    return {name: value for name, value in variables.items() if value is not None}


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _tensors(tensors: Iterable[TensorSpec]) -> str | None:
    said = [tensor.model_dump(mode="json") for tensor in tensors]
    return json.dumps(said) if said else None


def _paths(files: Iterable[File]) -> str | None:
    paths = [f"{FILES_DIR}/{file.name}" for file in files]
    return json.dumps(paths) if paths else None


def fetch_environment(
    model: ModelSpec, served_name: str, *, revision: str, version: str
) -> dict[str, str]:
    """Environment of the init container ``model-fetch``; credentials come by ``envFrom``."""
    environment = {
        "MODELYARD_MODEL_NAME": served_name,
        "MODELYARD_MODEL_VERSION": version,
        "MODELYARD_REVISION": revision,
        "MODELYARD_MODEL_REPOSITORY": MODEL_REPOSITORY,
        "MODELYARD_METRICS_PORT": str(METRICS_PORT),
        "MODELYARD_MODEL_URI": model.uri,
    }
    optional = {
        "MODELYARD_MODEL_DIGEST": model.digest,
        "MODELYARD_ENDPOINT_URL": model.endpoint_url,
        "MODELYARD_INCLUDE_PATTERNS": json.dumps(list(model.include_patterns))
        if model.include_patterns
        else None,
        "MODELYARD_CA_BUNDLE": f"{CA_DIR}/{CA_KEY}" if model.ca_bundle_config_map_ref else None,
        "MODELYARD_CLAIM_PATH": CLAIM_PATH if claim_name(model.uri) else None,
    }
    return environment | {name: value for name, value in optional.items() if value is not None}
