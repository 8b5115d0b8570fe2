"""The page of the runtime contract, and a pod that uses all of it beside one that uses none."""

import re
from typing import Any, Final

from modelyard_operator.files import Contents, read_files
from modelyard_operator.revision import Revision
from testkit.crd import ROOT
from testkit.operator_objects import model_deployment, revision_of

PAGE: Final = (ROOT / "docs" / "reference" / "runtime-contract.md").read_text()
FULL: Final[dict[str, Any]] = {
    "model": {
        "uri": "pvc://models/fraud",
        "name": "fraud-2",
        "version": "8",
        "digest": "sha256:" + "a" * 64,
        "format": "TorchExport",
        "allowPickle": True,
        "endpointURL": "https://minio.corp:9000",
        "includePatterns": ["*.pt2", "labels/*"],
        "caBundleConfigMapRef": {"name": "ca"},
        "credentialsSecretRef": {"name": "s3"},
        "inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, 30]}],
        "outputs": [{"name": "y", "dtype": "BYTES", "shape": []}],
    },
    "runtime": {
        "device": "CUDA",
        "handlerRef": {"configMapName": "hooks", "key": "fraud.py"},
        "batching": {
            "maxBatchSize": 7,
            "maxDelayMilliseconds": 3,
            "maxQueueSize": 9,
            "targetLatencyMilliseconds": 25,
            "buckets": [7, 4],
        },
        "concurrency": {"maxInFlightPerReplica": 11, "threads": 2},
        "timeouts": {
            "requestSeconds": 5,
            "streamIdleSeconds": 6,
            "startupSeconds": 60,
            "drainSeconds": 20,
        },
        "warmup": {
            "requests": [{"configMapName": "golden", "key": key} for key in ("one", "two")],
            "iterations": 8,
        },
    },
    "rollout": {
        "verification": {
            "requests": [{"configMapName": "golden", "key": "three"}],
            "relativeTolerance": "1e-2",
        }
    },
    "exposure": {
        "path": "/models/fraud/",
        "maxBodyBytes": 77,
        "auth": {
            "type": "JWT",
            "issuer": "https://id.corp",
            "audiences": ["fraud"],
            "jwksURI": "https://id.corp/keys",
        },
        "rateLimit": {"requestsPerSecond": 5, "burst": 6, "concurrency": 7},
    },
    "observability": {
        "tracing": {"otlpEndpoint": "http://otel:4318", "samplingRatio": "0.05"},
        "audit": {
            "mode": "Payload",
            "sink": "/tmp/audit",  # noqa: S108 - a path in the pod
            "samplingRatio": "0.5",
            "redact": ["card_*"],
        },
        "accessLog": {"samplingRatio": "1e-2"},
    },
}
"""A spec with each field that reaches the runtime."""
CONFIG_MAPS: Final[dict[str, Contents]] = {
    "hooks": {"fraud.py": "def postprocess(outputs): return outputs"},
    "golden": {"one": "{}", "two": "{}", "three": "[]"},
}
OWNER: Final = model_deployment(**FULL)
FILES: Final = read_files(OWNER.spec, CONFIG_MAPS)
REVISIONS: Final = {"full": revision_of(OWNER, FILES), "bare": revision_of(model_deployment())}


def container(revision: Revision, name: str) -> dict[str, Any]:
    pod = revision.template["spec"]
    (found,) = [one for one in (*pod["initContainers"], *pod["containers"]) if one["name"] == name]
    made: dict[str, Any] = found
    return made


def environment(revision: Revision, name: str) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(revision, name)["env"]}


def section(title: str) -> str:
    """The text below a heading of the page, up to the next one."""
    found = re.search(
        rf"^#+ {re.escape(title)}.*?$(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    assert found is not None, title
    return found[1]


def variables(text: str) -> set[str]:
    return set(re.findall(r"MODELYARD_[A-Z_]+", text))
