"""What else goes wrong with pods, and what of it no second pod would help."""

from typing import Any, Final

import pytest

from modelyard_operator.failures import Failure, find_failure
from modelyard_operator.resources.workload import build_workload
from testkit.operator_faults import (
    ENDED,
    REVISION,
    UID,
    WORKLOAD,
    ended,
    refused,
    runtime_pod,
    seen,
    unscheduled,
    waiting,
    warning,
)
from testkit.operator_objects import live, model_deployment, pod, revision_of


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
    failure = find_failure(seen(unscheduled(said)))
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
    failure = find_failure(seen(refused(said)))
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
    failure = find_failure(seen(runtime_pod(**waiting("CreateContainerConfigError", said))))
    assert failure is not None
    assert (failure.reason, failure.retryable) == (reason, True)
    assert hint in failure.hint


STARTING: Final = runtime_pod(**waiting("ContainerCreating", ""))


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (
            warning(
                "FailedMount",
                'MountVolume.SetUp failed for volume "ca" : configmap "corp-ca" not found',
            ),
            "ConfigMapNotFound",
        ),
        (
            warning("FailedMount", 'MountVolume.MountDevice failed for volume "pv": timed out'),
            "VolumeMountFailed",
        ),
        (warning("FailedAttachVolume", "Multi-Attach error for volume"), "VolumeMountFailed"),
        (
            warning("FailedCreatePodSandBox", 'no runtime for "nvidia" is configured'),
            "PodSandboxFailed",
        ),
    ],
)
def test_a_pod_whose_containers_do_not_start(event: dict[str, Any], reason: str) -> None:
    shown = pod(REVISION, containerStatuses=STARTING["status"]["containerStatuses"])
    failure = find_failure(seen(shown, events={UID: (event,)}))
    assert failure is not None
    assert (failure.reason, failure.last_time) == (reason, ENDED)
    assert find_failure(seen(shown, events={"another": (event,)})) is None


def test_a_mount_that_succeeded_in_the_end_is_forgiven() -> None:
    event = warning("FailedMount", "MountVolume.SetUp failed: timed out")
    loading = runtime_pod(
        name="runtime", image="i", restartCount=0, started=True, state={"running": {}}
    )
    assert find_failure(seen(loading, events={UID: (event,)})) is None


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
    running = runtime_pod(
        name="runtime", image="i", restartCount=0, started=started, state={"running": {}}
    )
    events = {UID: (warning("Unhealthy", message, count),)}
    failure = find_failure(seen(running, events=events))
    assert (failure is not None) is fails
    assert failure is None or failure.reason == "ProbeFailed"


def test_a_stranger_on_the_server_s_port_is_told_by_its_answer() -> None:
    squatter = {"spec": {"containers": [{"name": "squatter", "image": "i"}]}}
    owner = model_deployment(podTemplate=squatter)
    shared = live(build_workload(owner, revision_of(owner)))
    running = runtime_pod(
        name="runtime", image="i", restartCount=0, started=False, state={"running": {}}
    )
    answer = warning("Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 404")
    for workload, reason in ((shared, "PortInUse"), (WORKLOAD, "ProbeFailed")):
        view = seen(running, workload=workload, events={UID: (answer,)})
        failure = find_failure(view)
        assert failure is not None
        assert (failure.reason, failure.retryable) == (reason, False)
        assert "statuscode: 404" in failure.message


def test_a_container_that_its_probe_killed() -> None:
    events = (
        warning("Killing", "Container runtime failed liveness probe, will be restarted"),
        warning("Unhealthy", "Liveness probe failed: context deadline exceeded"),
    )
    crashed = runtime_pod(**ended("runtime", 137, "log line"))
    failure = find_failure(seen(crashed, events={UID: events}))
    assert failure is not None
    assert failure.reason == "ProbeFailed"
    assert failure.message == (
        "container runtime was killed because its liveness probe failed: context deadline exceeded"
    )
    assert (failure.exit_code, failure.count) == (137, 1)


def test_a_pod_that_the_kubelet_gave_up() -> None:
    evicted = pod(REVISION, phase="Failed", reason="Evicted", message="node was low on memory")
    failure = find_failure(seen(evicted))
    assert failure is not None
    assert (failure.reason, failure.message) == ("PodEvicted", "node was low on memory")
    replacement = pod(REVISION, "newer", created="2026-01-01T11:59:59Z")
    assert find_failure(seen(evicted, replacement)) is None
    unknown = pod(REVISION, phase="Failed", reason="NodeShutdown", message="m")
    failure = find_failure(seen(unknown))
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
