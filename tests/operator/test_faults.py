"""Fifteen faults as the cluster reports them: each has a reason of its own, and says what to do."""

import json
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest

from modelyard_operator.devices import Devices
from modelyard_operator.errors import QuotaExceededError
from modelyard_operator.failures import Failure, RevisionView, find_failure
from modelyard_operator.resources.workload import build_workload
from modelyard_operator.spec import AcceleratorSpec
from testkit.operator_objects import live, model_deployment, observe, pod, revision_of

OWNER = model_deployment(resources={"limits": {"memory": "320Mi"}})
REVISION = revision_of(OWNER).name
POD = f"{REVISION}-abc12"
UID = f"uid-pod-{POD}"
WORKLOAD = live(build_workload(OWNER, revision_of(OWNER)))
ENDED: Final = "2026-01-01T11:59:00Z"
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


def _ended(name: str, code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    terminated = {"exitCode": code, "reason": reason, "message": message, "finishedAt": ENDED}
    return {
        "name": name,
        "image": "modelyard/runtime:1",
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
        "lastState": {"terminated": terminated},
    }


def _fetch(reason: str, message: str, hint: str, *, retryable: bool = False) -> Any:
    word = {"reason": reason, "message": message, "hint": hint, "retryable": retryable}
    waits = {"name": "runtime", "image": "i", "restartCount": 0}
    return pod(
        REVISION,
        initContainerStatuses=[_ended("model-fetch", 1, json.dumps(word))],
        containerStatuses=[waits | {"state": {"waiting": {"reason": "PodInitializing"}}}],
    )


def _runtime(**status: Any) -> Any:
    fetched = {"exitCode": 0, "reason": "Completed", "message": "{}", "finishedAt": ENDED}
    init = {"name": "model-fetch", "image": "i", "restartCount": 0}
    return pod(
        REVISION,
        initContainerStatuses=[init | {"state": {"terminated": fetched}}],
        containerStatuses=[status],
    )


def _word(reason: str, message: str, hint: str) -> str:
    return json.dumps({"reason": reason, "message": message, "hint": hint, "retryable": False})


def _waiting(reason: str, message: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "runtime", "image": "team/server:9", "restartCount": 0, "state": state}


def _unscheduled(message: str) -> Any:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return pod(REVISION, conditions=[condition | {"message": message, "lastTransitionTime": ENDED}])


def _refused(message: str) -> Any:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    return WORKLOAD | {
        "status": {"conditions": [condition | {"message": message, "lastTransitionTime": ENDED}]}
    }


def _event(reason: str, message: str, count: int = 1) -> dict[str, Any]:
    times = {"firstTimestamp": ENDED, "lastTimestamp": ENDED}
    return {"reason": reason, "message": message, "count": count, "type": "Warning", **times}


FAULTS: Final = {
    "bad key": Fault(
        "AccessDenied",
        "s3://models/fraud/8",
        "credentialsSecretRef",
        (
            _fetch(
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
            _fetch(
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
            _fetch(
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
            pod(REVISION, initContainerStatuses=[_ended("model-fetch", 137, "", "OOMKilled")]),
            WORKLOAD,
        ),
        retryable=False,
    ),
    "out of memory in the load": Fault(
        "OutOfMemory",
        "limit 320Mi",
        "spec.resources.limits.memory",
        (_runtime(**_ended("runtime", 137, "", "OOMKilled")), WORKLOAD),
        retryable=False,
    ),
    "image pull": Fault(
        "ImagePullFailed",
        "team/server:9",
        "imagePullSecrets",
        (_runtime(**_waiting("ImagePullBackOff", 'Back-off pulling image "team/server:9"')),),
        retryable=True,
    ),
    "no device": Fault(
        "InsufficientAccelerator",
        "needs 1 nvidia.com/gpu, 0 free of 2",
        "add a node",
        (
            _unscheduled(
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
            _refused(
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
        (_runtime(name="runtime", image="i", restartCount=0, started=True, state={"running": {}}),),
        retryable=False,
        view={
            "events": {
                UID: (
                    _event(
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
            _runtime(
                **_ended(
                    "runtime",
                    1,
                    _word(
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
            _runtime(
                **_ended(
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
            _unscheduled(
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
            _fetch(
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
            _fetch(
                "SourceNotTrusted",
                "https://h/x cannot be read: TLS failed (InvalidCertificate: UnknownIssuer)",
                "Name the authority's certificate in caBundleConfigMapRef, or correct the address.",
            ),
        ),
        retryable=False,
    ),
}


def _view(*objects: Any, **given: Any) -> RevisionView:
    return replace(observe(OWNER, *objects).view(REVISION), **given)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_with_its_cause_and_its_fix(fault: Fault) -> None:
    failure = find_failure(_view(*fault.shows, **fault.view))
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


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('0/1 nodes are available: persistentvolumeclaim "m" not found.', "ClaimNotFound"),
        ("0/1 nodes: didn't find available persistent volumes to bind.", "ClaimNotBound"),
        ("node(s) didn't have free ports for the requested pod ports", "HostPortTaken"),
        ("0/1 nodes are available: 1 Insufficient memory.", "InsufficientMemory"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s).", "Unschedulable"),
    ],
)
def test_what_else_the_scheduler_says(said: str, reason: str) -> None:
    failure = find_failure(_view(_unscheduled(said)))
    assert failure is not None
    assert (failure.reason, failure.message) == (reason, said)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('pods "x" is forbidden: failed quota: q: must specify limits.cpu', "QuotaNeedsResources"),
        (
            'error looking up service account ml/sa: serviceaccount "sa" not found',
            "ServiceAccountNotFound",
        ),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', "PodSecurityViolated"),
        (
            'pods "x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi',
            "LimitRangeViolated",
        ),
        ("admission webhook denied the request", "PodCreationFailed"),
    ],
)
def test_what_else_keeps_pods_from_being_made(said: str, reason: str) -> None:
    failure = find_failure(_view(_refused(said)))
    assert failure is not None
    assert (failure.reason, failure.message) == (reason, said)


MISSING_KEY: Final = "couldn't find key k in Secret ml/s3"


@pytest.mark.parametrize(
    ("said", "reason", "hint"),
    [
        ('secret "s3" not found', "SecretNotFound", "create the Secret s3"),
        ('configmap "c" not found', "ConfigMapNotFound", "create the ConfigMap c"),
        (MISSING_KEY, "ContainerConfigError", "check the Secrets"),
    ],
)
def test_what_a_container_needs_and_is_not_there(said: str, reason: str, hint: str) -> None:
    failure = find_failure(_view(_runtime(**_waiting("CreateContainerConfigError", said))))
    assert failure is not None
    assert (failure.reason, failure.retryable) == (reason, True)
    assert hint in failure.hint


STARTING: Final = _runtime(**_waiting("ContainerCreating", ""))


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (
            _event(
                "FailedMount",
                'MountVolume.SetUp failed for volume "ca" : configmap "corp-ca" not found',
            ),
            "ConfigMapNotFound",
        ),
        (
            _event("FailedMount", 'MountVolume.MountDevice failed for volume "pv": timed out'),
            "VolumeMountFailed",
        ),
        (_event("FailedAttachVolume", "Multi-Attach error for volume"), "VolumeMountFailed"),
        (
            _event("FailedCreatePodSandBox", 'no runtime for "nvidia" is configured'),
            "PodSandboxFailed",
        ),
    ],
)
def test_a_pod_whose_containers_do_not_start(event: dict[str, Any], reason: str) -> None:
    shown = pod(REVISION, containerStatuses=STARTING["status"]["containerStatuses"])
    failure = find_failure(_view(shown, events={UID: (event,)}))
    assert failure is not None
    assert (failure.reason, failure.last_time) == (reason, ENDED)
    assert find_failure(_view(shown, events={"another": (event,)})) is None


def test_a_mount_that_succeeded_in_the_end_is_forgiven() -> None:
    event = _event("FailedMount", "MountVolume.SetUp failed: timed out")
    loading = _runtime(
        name="runtime", image="i", restartCount=0, started=True, state={"running": {}}
    )
    assert find_failure(_view(loading, events={UID: (event,)})) is None


@pytest.mark.parametrize(
    ("message", "count", "started", "fails"),
    [
        ("Readiness probe failed: HTTP probe failed with statuscode: 503", 99, True, False),
        ('Startup probe failed: Get "http://10.0.0.1:8080/": connection refused', 5, False, False),
        ('Startup probe failed: Get "http://10.0.0.1:8080/": connection refused', 30, False, True),
        ("Startup probe failed: HTTP probe failed with statuscode: 404", 1, False, True),
        ("Startup probe failed: HTTP probe failed with statuscode: 404", 99, True, False),
        ("Liveness probe failed: HTTP probe failed with statuscode: 500", 1, True, True),
        ("Something else", 99, True, False),
    ],
)
def test_which_probes_fail_for_good(
    message: str,
    count: int,
    started: bool,  # noqa: FBT001
    fails: bool,  # noqa: FBT001
) -> None:
    running = _runtime(
        name="runtime", image="i", restartCount=0, started=started, state={"running": {}}
    )
    events = {UID: (_event("Unhealthy", message, count),)}
    failure = find_failure(_view(running, events=events))
    assert (failure is not None) is fails
    assert failure is None or failure.reason == "ProbeFailed"


def test_a_stranger_on_the_server_s_port_is_told_by_its_answer() -> None:
    squatter = {"spec": {"containers": [{"name": "squatter", "image": "i"}]}}
    owner = model_deployment(podTemplate=squatter)
    shared = live(build_workload(owner, revision_of(owner)))
    running = _runtime(
        name="runtime", image="i", restartCount=0, started=False, state={"running": {}}
    )
    answer = _event("Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 404")
    for workload, reason in ((shared, "PortInUse"), (WORKLOAD, "ProbeFailed")):
        view = _view(running, workload=workload, events={UID: (answer,)})
        failure = find_failure(view)
        assert failure is not None
        assert (failure.reason, failure.retryable) == (reason, False)
        assert "statuscode: 404" in failure.message


def test_a_container_that_its_probe_killed() -> None:
    events = (
        _event("Killing", "Container runtime failed liveness probe, will be restarted"),
        _event("Unhealthy", "Liveness probe failed: context deadline exceeded"),
    )
    crashed = _runtime(**_ended("runtime", 137, "log line"))
    failure = find_failure(_view(crashed, events={UID: events}))
    assert failure is not None
    assert failure.reason == "ProbeFailed"
    assert failure.message == (
        "container runtime was killed because its liveness probe failed: context deadline exceeded"
    )
    assert (failure.exit_code, failure.count) == (137, 1)


def test_a_pod_that_the_kubelet_gave_up() -> None:
    evicted = pod(REVISION, phase="Failed", reason="Evicted", message="node was low on memory")
    failure = find_failure(_view(evicted))
    assert failure is not None
    assert (failure.reason, failure.message) == ("PodEvicted", "node was low on memory")
    replacement = pod(REVISION, "newer", created="2026-01-01T11:59:59Z")
    assert find_failure(_view(evicted, replacement)) is None
    unknown = pod(REVISION, phase="Failed", reason="NodeShutdown", message="m")
    failure = find_failure(_view(unknown))
    assert failure is not None
    assert failure.reason == "PodNodeShutdown"


@pytest.mark.parametrize(
    ("failure", "hard"),
    [
        (Failure("InvalidArtifact", "m", "h", retryable=False, count=1), True),
        (Failure("ContainerCrashed", "m", "h", retryable=True, count=1), False),
        (Failure("ContainerCrashed", "m", "h", retryable=True, count=2), True),
        (Failure("SourceUnreachable", "m", "h", retryable=True, count=9), False),
        (Failure("InsufficientAccelerator", "m", "h", retryable=True), False),
    ],
)
def test_what_no_second_pod_would_help(failure: Failure, hard: bool) -> None:  # noqa: FBT001
    assert failure.hard is hard
