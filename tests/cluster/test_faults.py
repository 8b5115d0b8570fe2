"""Faults injected into a real cluster: each named by its own reason, with its fix, in seconds.

Wrong keys, missing objects, wrong digests, a model that needs too much memory, images and devices that
are not there are in test_failures.py, with a load on what serves meanwhile. Together they are the
fifteen of tests/operator/test_faults.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from testkit.cluster_api import Manifest, condition, revision_of
from testkit.cluster_explained import check_explained
from testkit.cluster_lab import SLIM_IMAGE, Bench, Lab, Served

pytestmark = [pytest.mark.cluster, pytest.mark.together]

LIMIT_S: Final = 15.0
BROKEN_HANDLER: Final = "import no_such_module\n\n\ndef preprocess(request, ctx):\n    return {}\n"
SQUATTER: Final = (
    "import http.server as h; h.HTTPServer(('', 8080), h.SimpleHTTPRequestHandler).serve_forever()"
)


def _nothing(bench: Bench) -> None:
    del bench


@dataclass(frozen=True)
class Fault:
    """What is broken, and what must be said about it.

    Attributes:
        reason: Its own reason.
        edit: The edit that runs into it.
        says: Words of the message.
        advises: Words of the hint.
        prepare: What is put into the namespace between the first version and the edit.
    """

    reason: str
    edit: Manifest
    says: str
    advises: str
    prepare: Callable[[Bench], None] = _nothing


def _quota(**hard: str) -> Callable[[Bench], None]:
    def create(bench: Bench) -> None:
        names = {name.replace("_", "/"): value for name, value in hard.items()}
        body = {"metadata": {"name": "tight"}, "spec": {"hard": names}}
        bench.lab.api.create("ResourceQuota", bench.namespace, body)

    return create


def _claim(bench: Bench) -> None:
    spec = {
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": "no-such-class",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    body = {"metadata": {"name": "models"}, "spec": spec}
    bench.lab.api.create("PersistentVolumeClaim", bench.namespace, body)


def _handler(bench: Bench) -> None:
    body = {"metadata": {"name": "handler"}, "data": {"handler.py": BROKEN_HANDLER}}
    bench.lab.api.create("ConfigMap", bench.namespace, body)


def _elsewhere(uri: str) -> Manifest:
    return {"model": {"uri": uri, "endpointURL": None, "credentialsSecretRef": None}}


def _runtime(**fields: Any) -> Manifest:
    return {"podTemplate": {"spec": {"containers": [{"name": "runtime", **fields}]}}}


FAULTS: Final = {
    "memory of the download": Fault(
        "DownloadOutOfMemory",
        {"resources": {"requests": {"memory": "16Mi"}, "limits": {"memory": "20Mi"}}},
        "limit 20Mi",
        "spec.resources.limits.memory",
    ),
    "quota": Fault(
        "QuotaExceeded", {"model": {"version": "2"}}, "exceeded quota: tight", "ResourceQuota",
        _quota(pods="1"),
    ),
    "quota of the namespace": Fault(
        "NamespaceQuotaExceeded", {"model": {"version": "2"}}, "exceeded quota: tight",
        "ResourceQuota", _quota(services="2"),
    ),
    "probe": Fault(
        "ProbeFailed",
        _runtime(readinessProbe={"httpGet": {"path": "/nowhere", "port": "http"}}),
        "statuscode: 404",
        "spec.podTemplate",
    ),
    "handler": Fault(
        "InvalidHandler",
        {"runtime": {"handlerRef": {"configMapName": "handler", "key": "handler.py"}}},
        "no_such_module",
        "",
        _handler,
    ),
    "port": Fault(
        "PortInUse",
        {
            "podTemplate": {
                "spec": {
                    # One that starts before the others do, or the two would race for the port.
                    "initContainers": [
                        {
                            "name": "squatter",
                            "image": SLIM_IMAGE,
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["python", "-c", SQUATTER],
                            "restartPolicy": "Always",
                            "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                        }
                    ]
                }
            }
        },
        "holds a port of the model server",
        "8080",
    ),
    "claim": Fault(
        "ClaimNotFound", _elsewhere("pvc://nowhere/model"), '"nowhere" not found', "spec.model.uri"
    ),
    "claim without a volume": Fault(
        "ClaimNotBound",
        _elsewhere("pvc://models/fraud"),
        "unbound immediate PersistentVolumeClaims",
        "PersistentVolumeClaim",
        _claim,
    ),
    "DNS": Fault(
        "SourceNotResolved",
        _elsewhere("https://nowhere.invalid/model.onnx"),
        "no address",
        "DNS",
    ),
    "TLS": Fault(
        "SourceNotTrusted",
        _elsewhere("https://kubernetes.default.svc/model.onnx"),
        "InvalidCertificate",
        "caBundleConfigMapRef",
    ),
    "secret": Fault(
        "SecretNotFound",
        {"model": {"credentialsSecretRef": {"name": "nowhere"}}},
        '"nowhere"',
        "create the Secret nowhere",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_with_its_cause_and_its_fix(lab: Lab, fault: Fault) -> None:
    with lab.bench(fault.reason.lower()[:20]) as bench:
        served = bench.serve("fraud", routed=False)
        stable = revision_of(served.until_ready(), "stable")
        fault.prepare(bench)
        served.edit(**fault.edit)
        seen = served.until(_names(fault.reason))
        noticed = datetime.now(UTC)
        event = served.until_event(fault.reason, lacks="traffic returns")
        assert event["type"] == "Warning"
        for words in (fault.says, fault.advises):
            assert words in event["message"], event
        assert condition(seen, "Ready")["status"] == "False"
        check_explained(seen, fault.reason)
        assert condition(seen, "Available")["status"] == "True"
        assert revision_of(seen, "stable") == stable
        _check_time(served, seen, noticed)


def _names(reason: str) -> Callable[[Manifest], bool]:
    """Ready keeps the reason also when the machine has rejected the revision for it since."""
    return lambda seen: bool(condition(seen, "Ready").get("reason") == reason)


def _check_time(served: Served, seen: Manifest, noticed: datetime) -> None:
    """From the first report by the scheduler, the kubelet or the fetcher, where it has a time."""
    reported = seen["status"].get("failure", {}).get("lastTime")
    if reported is None:
        reported = condition(served.get(), "Ready")["lastTransitionTime"]
    assert (noticed - datetime.fromisoformat(reported)).total_seconds() <= LIMIT_S


def test_a_missing_device_is_counted(lab: Lab) -> None:
    with lab.bench("devices") as bench:
        served = bench.serve("fraud", routed=False, accelerator={"count": 64})
        seen = served.until(
            lambda one: condition(one, "CapacityAvailable").get("status") == "False"
        )
        room = condition(seen, "CapacityAvailable")
        assert room["reason"] == "InsufficientAccelerator"
        assert "needs 64 nvidia.com/gpu, " in room["message"]
        assert " free of " in room["message"]
        (pod,) = served.pods()
        (verdict,) = (c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
        told, said = (datetime.fromisoformat(one["lastTransitionTime"]) for one in (room, verdict))
        assert (told - said).total_seconds() <= 5
