import json
from dataclasses import replace
from typing import Any

import pytest

from modelyard_operator.errors import InvalidSpecError
from modelyard_operator.failures import (
    MESSAGE_LIMIT,
    Failure,
    RevisionView,
    find_failure,
)
from modelyard_operator.resources.workload import build_workload
from modelyard_operator.spec import AcceleratorSpec
from testkit.operator_objects import live, model_deployment, observe, pod, revision_of

OWNER = model_deployment()
REVISION = revision_of(OWNER).name
GPU = AcceleratorSpec(count=2)
ENDED = "2026-01-01T11:30:00Z"
FETCH = (
    "UnsupportedURIScheme",
    "ArtifactNotFound",
    "AccessDenied",
    "DigestMismatch",
    "SourceUnreachable",
    "SourceNotResolved",
    "SourceNotTrusted",
    "InsufficientStorage",
    "InvalidSettings",
)
RUNTIME = (
    "UnknownFormat",
    "FormatUnavailable",
    "InvalidArtifact",
    "PickleNotAllowed",
    "DeviceUnavailable",
    "OutOfMemory",
    "WarmupFailed",
    "VerificationFailed",
    "SignatureMismatch",
    "InvalidHandler",
    "StartupTimeout",
    "InvalidSettings",
)


def container(name: str = "runtime", restarts: int = 0, **states: Any) -> dict[str, Any]:
    return {"name": name, "image": "modelyard/runtime:1", "restartCount": restarts, **states}


def ended(code: int, message: str | None = None, reason: str = "Error") -> dict[str, Any]:
    state: dict[str, Any] = {"exitCode": code, "reason": reason, "finishedAt": ENDED}
    return {"terminated": state if message is None else state | {"message": message}}


def waiting(reason: str, message: str = "said the kubelet") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def runtime(*, init: Any = (), **states: Any) -> dict[str, Any]:
    restarts = states.pop("restarts", 0)
    return pod(
        REVISION,
        containerStatuses=[container(restarts=restarts, **states)],
        initContainerStatuses=list(init),
    )


def seen(*objects: Any, **given: Any) -> RevisionView:
    return replace(observe(OWNER, *objects).view(REVISION), **given)


def found(*objects: Any, **given: Any) -> Failure:
    failure = find_failure(seen(*objects, **given))
    assert failure is not None
    return failure


def nothing(*objects: Any, **given: Any) -> bool:
    return find_failure(seen(*objects, **given)) is None


@pytest.mark.parametrize("retryable", [True, False])
@pytest.mark.parametrize(
    ("name", "reason"),
    [*(("model-fetch", one) for one in FETCH), *(("runtime", one) for one in RUNTIME)],
)
def test_the_last_word_of_a_container_counts(name: str, reason: str, retryable: bool) -> None:  # noqa: FBT001
    word = {"reason": reason, "message": "what", "hint": "do", "retryable": retryable}
    crashed = container(
        name, 3, state=waiting("CrashLoopBackOff"), lastState=ended(1, json.dumps(word))
    )
    group = "initContainerStatuses" if name == "model-fetch" else "containerStatuses"
    statuses: dict[str, Any] = {group: [crashed]}
    failure = found(pod(REVISION, **statuses))
    assert failure.retryable is retryable
    assert failure.to_status() == {
        "reason": reason,
        "message": "what",
        "hint": "do",
        "revision": REVISION,
        "pod": f"{REVISION}-abc12",
        "container": name,
        "exitCode": 1,
        "terminationMessage": json.dumps(word),
        "count": 3,
        "lastTime": ENDED,
    }


def test_a_kill_for_memory_beats_what_the_log_says() -> None:
    word = json.dumps({"reason": "WarmupFailed", "message": "", "hint": ""})
    failure = found(runtime(state=ended(137, word, "OOMKilled"), restarts=1))
    assert (failure.reason, failure.retryable, failure.count) == ("OutOfMemory", False, 2)
    assert failure.hint == "raise spec.resources.limits.memory"


@pytest.mark.parametrize("message", [None, "", "Traceback", "[1]", '{"bytes": 1}', "{", "x" * 9999])
def test_a_crash_without_a_word_of_the_contract(message: str | None) -> None:
    failure = found(runtime(state=ended(139, message)))
    assert (failure.reason, failure.exit_code) == ("ContainerCrashed", 139)
    assert failure.message == "container runtime ended with exit code 139"
    assert len(failure.termination_message or "") <= MESSAGE_LIMIT
    assert failure.termination_message != ""


@pytest.mark.parametrize(
    "fine",
    [
        runtime(state={"running": {}}),
        runtime(state=ended(0, "{}", "Completed")),
        runtime(state={"running": {}}, init=[container("model-fetch", state=ended(0))]),
        runtime(state=waiting("PodInitializing")),
        runtime(state=waiting("ContainerCreating"), init=[container(state={})]),
        pod(REVISION),
        pod(REVISION, conditions=[{"type": "PodScheduled", "status": "True"}]),
        pod("fraud-other", containerStatuses=[container(state=ended(1))]),
        pod(REVISION, ready=True, containerStatuses=[container(lastState=ended(1), state={})]),
        {**pod(REVISION), "status": {}},
    ],
)
def test_what_is_only_slow_is_no_failure(fine: dict[str, Any]) -> None:
    assert nothing(fine)


def test_a_retry_that_succeeded_is_forgiven() -> None:
    retried = container("model-fetch", 1, state=ended(0), lastState=ended(1))
    assert nothing(runtime(state={"running": {}}, init=[retried]))


@pytest.mark.parametrize(
    ("reason", "ours", "retryable"),
    [
        ("ErrImagePull", "ImagePullFailed", True),
        ("ImagePullBackOff", "ImagePullFailed", True),
        ("ErrImageNeverPull", "ImagePullFailed", None),
        ("InvalidImageName", "InvalidImageName", False),
        ("CreateContainerConfigError", "ContainerConfigError", True),
        ("CreateContainerError", "ContainerCreateError", True),
        ("RunContainerError", "ContainerCreateError", True),
    ],
)
def test_what_the_kubelet_waits_for(reason: str, ours: str, retryable: bool | None) -> None:  # noqa: FBT001
    failure = found(runtime(state=waiting(reason, "m" * 5000)))
    assert failure.reason == ours
    assert failure.hint
    assert len(failure.message) <= MESSAGE_LIMIT
    if retryable is not None:
        assert failure.retryable is retryable
    if ours == "ImagePullFailed":
        assert failure.message == "container runtime: modelyard/runtime:1: cannot be pulled"


def scheduled(message: str, reason: str = "Unschedulable") -> dict[str, Any]:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": ENDED,
    }
    return pod(REVISION, conditions=[condition])


NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes."


def test_a_missing_device_is_told_from_other_shortages() -> None:
    short = found(scheduled(NO_GPU), accelerator=GPU)
    assert (short.reason, short.retryable) == ("InsufficientAccelerator", True)
    assert short.message == f"needs 2 nvidia.com/gpu, and no node has them free: {NO_GPU}"
    assert short.last_time == ENDED
    other = found(scheduled("0/3 nodes are available: 3 Insufficient cpu."), accelerator=GPU)
    assert other.reason == "InsufficientCPU"
    assert found(scheduled(NO_GPU)).reason == "Unschedulable"
    assert nothing(scheduled("gated", "SchedulingGated"))


def workload(*conditions: dict[str, str]) -> dict[str, Any]:
    made = live(build_workload(OWNER, revision_of(OWNER)))
    return made | {"status": {"conditions": list(conditions)}}


def test_pods_that_may_not_be_made() -> None:
    quota = {
        "type": "ReplicaFailure",
        "status": "True",
        "message": 'pods "x" is forbidden: exceeded quota: gpu',
        "lastTransitionTime": ENDED,
    }
    failure = found(workload({"type": "Available", "status": "False"}, quota))
    assert (failure.reason, failure.pod, failure.message) == (
        "QuotaExceeded",
        None,
        quota["message"],
    )
    assert nothing(workload(quota | {"status": "False"}))
    assert nothing(workload())
    assert nothing()


def test_a_crash_explains_more_than_a_pod_that_waits() -> None:
    crashed = runtime(state=ended(1))
    other = scheduled(NO_GPU)
    other["metadata"]["name"] = "newer"
    other["metadata"]["creationTimestamp"] = "2026-01-01T11:59:00Z"
    assert found(other, crashed, accelerator=GPU).reason == "ContainerCrashed"


def test_the_newest_pod_speaks() -> None:
    old, new = runtime(state=ended(1)), runtime(state=ended(2))
    new["metadata"] |= {"name": "newer", "creationTimestamp": "2026-01-01T11:59:00Z"}
    assert found(old, new).exit_code == 2


def test_a_pod_on_its_way_out_says_nothing() -> None:
    leaving = runtime(state=ended(1))
    leaving["metadata"]["deletionTimestamp"] = ENDED
    assert nothing(leaving)


def test_a_refused_spec_is_a_failure_of_no_revision() -> None:
    failure = Failure.of(InvalidSpecError("spec.x: expected y"))
    assert failure.to_status().keys() == {"reason", "message", "hint"}
    assert not failure.retryable
