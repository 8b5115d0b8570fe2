"""Fifteen faults as the cluster reports them: each has a reason of its own, and says what to do."""

from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from modelyard_operator.devices import Devices
from modelyard_operator.errors import QuotaExceededError
from modelyard_operator.failures import Failure, find_failure
from modelyard_operator.spec import AcceleratorSpec
from testkit.operator_faults import (
    POD,
    REVISION,
    UID,
    WORKLOAD,
    ended,
    fetch_failed,
    last_word,
    refused,
    runtime_pod,
    seen,
    unscheduled,
    waiting,
    warning,
)
from testkit.operator_objects import pod

GPU = AcceleratorSpec(count=1)


@dataclass(frozen=True)
class Fault:
    """What the cluster shows of a fault, and what must be said.

    Attributes:
        reason: The reason of its own.
        says: Words of the message.
        advises: Words of the hint.
        shows: Pods and Deployment.
        retryable: Waiting may help.
        view: What else is known: Events, devices.
    """

    reason: str
    says: str
    advises: str
    shows: tuple[Any, ...]
    retryable: bool
    view: dict[str, Any] = field(default_factory=dict)


FAULTS: Final = {
    "bad key": Fault(
        "AccessDenied",
        "s3://models/fraud/8",
        "credentialsSecretRef",
        (
            fetch_failed(
                "AccessDenied",
                "access to s3://models/fraud/8 is denied: InvalidAccessKeyId",
                "Check the keys of credentialsSecretRef and the bucket's policy.",
            ),
        ),
        retryable=False,
    ),
    "missing object": Fault(
        "ArtifactNotFound",
        "s3://models/fraud/8",
        "bucket",
        (
            fetch_failed(
                "ArtifactNotFound",
                "no file at s3://models/fraud/8",
                "Check the bucket, the path and includePatterns.",
            ),
        ),
        retryable=False,
    ),
    "checksum": Fault(
        "DigestMismatch",
        "sha256:aa",
        "replaced",
        (
            fetch_failed(
                "DigestMismatch",
                "the files have sha256:aa, spec.model.digest is sha256:bb",
                "The artifact was replaced, or the digest belongs to another version.",
            ),
        ),
        retryable=False,
    ),
    "out of memory in the download": Fault(
        "DownloadOutOfMemory",
        "limit 320Mi",
        "spec.resources.limits.memory",
        (
            pod(REVISION, initContainerStatuses=[ended("model-fetch", 137, "", "OOMKilled")]),
            WORKLOAD,
        ),
        retryable=False,
    ),
    "out of memory in the load": Fault(
        "OutOfMemory",
        "limit 320Mi",
        "spec.resources.limits.memory",
        (runtime_pod(**ended("runtime", 137, "", "OOMKilled")), WORKLOAD),
        retryable=False,
    ),
    "image pull": Fault(
        "ImagePullFailed",
        "team/server:9",
        "imagePullSecrets",
        (runtime_pod(**waiting("ImagePullBackOff", 'Back-off pulling image "team/server:9"')),),
        retryable=True,
    ),
    "no device": Fault(
        "InsufficientAccelerator",
        "needs 1 nvidia.com/gpu, 0 free of 2",
        "add a node",
        (
            unscheduled(
                "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are "
                "available: 3 No preemption victims found for incoming pod."
            ),
        ),
        retryable=True,
        view={"accelerator": GPU, "devices": Devices(total=2, free=0, largest=0)},
    ),
    "quota": Fault(
        "QuotaExceeded",
        "requests.nvidia.com/gpu=1",
        "ResourceQuota",
        (
            refused(
                f'pods "{POD}" is forbidden: exceeded quota: gpus, requested: '
                "requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=2, "
                "limited: requests.nvidia.com/gpu=2"
            ),
        ),
        retryable=True,
    ),
    "probe": Fault(
        "ProbeFailed",
        "the readiness probe fails: HTTP probe failed with statuscode: 404",
        "spec.podTemplate",
        (
            runtime_pod(
                name="runtime", image="i", restartCount=0, started=True, state={"running": {}}
            ),
        ),
        retryable=False,
        view={
            "events": {
                UID: (
                    warning(
                        "Unhealthy",
                        "Readiness probe failed: HTTP probe failed with statuscode: 404",
                    ),
                )
            }
        },
    ),
    "bad handler": Fault(
        "InvalidHandler",
        "handler.py, line 3",
        "hooks",
        (
            runtime_pod(
                **ended(
                    "runtime",
                    1,
                    last_word(
                        "InvalidHandler",
                        "handler.py, line 3: NameError: name 'np' is not defined",
                        "The hooks are preprocess, postprocess and stream.",
                    ),
                )
            ),
        ),
        retryable=False,
    ),
    "port clash": Fault(
        "PortInUse",
        "container runtime could not listen",
        "8080",
        (
            runtime_pod(
                **ended(
                    "runtime", 1, "OSError: [Errno 98] Address already in use ('0.0.0.0', 8080)"
                )
            ),
        ),
        retryable=False,
    ),
    "claim without a volume": Fault(
        "ClaimNotBound",
        "unbound immediate PersistentVolumeClaims",
        "PersistentVolumeClaim",
        (
            unscheduled(
                "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. not "
                "found. preemption: 0/3 nodes are available: 3 Preemption is not helpful."
            ),
        ),
        retryable=True,
        view={"accelerator": GPU},
    ),
    "DNS": Fault(
        "SourceNotResolved",
        "has no address",
        "DNS",
        (
            fetch_failed(
                "SourceNotResolved",
                "https://nowhere/x cannot be read: its host has no address",
                "Check the host in the URI or endpointURL, and that the pods may ask the DNS.",
                retryable=True,
            ),
        ),
        retryable=True,
    ),
    "TLS": Fault(
        "SourceNotTrusted",
        "InvalidCertificate: UnknownIssuer",
        "caBundleConfigMapRef",
        (
            fetch_failed(
                "SourceNotTrusted",
                "https://h/x cannot be read: TLS failed (InvalidCertificate: UnknownIssuer)",
                "Name the authority's certificate in caBundleConfigMapRef, or correct the address.",
            ),
        ),
        retryable=False,
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_with_its_cause_and_its_fix(fault: Fault) -> None:
    failure = find_failure(seen(*fault.shows, **fault.view))
    assert failure is not None
    assert failure.reason == fault.reason
    assert fault.says in failure.message
    assert fault.advises in failure.hint
    assert failure.retryable is fault.retryable
    assert failure.revision == REVISION


def test_a_quota_that_refuses_a_child_is_the_fifteenth() -> None:
    said = 'services "fraud-a" is forbidden: exceeded quota: objects, requested: count/services=1'
    failure = Failure.of(QuotaExceededError(f"server_side_apply Service: {said}"))
    assert failure.reason == "NamespaceQuotaExceeded"
    assert said in failure.message
    assert "ResourceQuota" in failure.hint
    assert failure.retryable


def test_no_two_faults_share_a_reason() -> None:
    reasons = {fault.reason for fault in FAULTS.values()} | {QuotaExceededError.reason}
    assert len(reasons) == 15
