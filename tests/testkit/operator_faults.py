"""What a cluster shows of pods that do not run, as its parts word it."""

import json
from dataclasses import replace
from typing import Any, Final

from modelyard_operator.failures import RevisionView
from modelyard_operator.resources.workload import build_workload
from testkit.operator_objects import live, model_deployment, observe, pod, revision_of

OWNER: Final = model_deployment(resources={"limits": {"memory": "320Mi"}})
REVISION: Final = revision_of(OWNER).name
POD: Final = f"{REVISION}-abc12"
UID: Final = f"uid-pod-{POD}"
WORKLOAD: Final = live(build_workload(OWNER, revision_of(OWNER)))
ENDED: Final = "2026-01-01T11:59:00Z"


def ended(name: str, code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    """Return the status of a container that ended, and is started again later."""
    terminated = {"exitCode": code, "reason": reason, "message": message, "finishedAt": ENDED}
    return {
        "name": name,
        "image": "modelyard/runtime:1",
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
        "lastState": {"terminated": terminated},
    }


def fetch_failed(reason: str, message: str, hint: str, *, retryable: bool = False) -> Any:
    """Return a pod whose model-fetch gave a reason."""
    word = {"reason": reason, "message": message, "hint": hint, "retryable": retryable}
    waits = {"name": "runtime", "image": "i", "restartCount": 0}
    return pod(
        REVISION,
        initContainerStatuses=[ended("model-fetch", 1, json.dumps(word))],
        containerStatuses=[waits | {"state": {"waiting": {"reason": "PodInitializing"}}}],
    )


def runtime_pod(**status: Any) -> Any:
    """Return a pod that has its model, with the status of the runtime's container."""
    fetched = {"exitCode": 0, "reason": "Completed", "message": "{}", "finishedAt": ENDED}
    init = {"name": "model-fetch", "image": "i", "restartCount": 0}
    return pod(
        REVISION,
        initContainerStatuses=[init | {"state": {"terminated": fetched}}],
        containerStatuses=[status],
    )


def last_word(reason: str, message: str, hint: str) -> str:
    """Write a termination message of the runtime."""
    return json.dumps({"reason": reason, "message": message, "hint": hint, "retryable": False})


def waiting(reason: str, message: str) -> dict[str, Any]:
    """Return the status of a container that the kubelet does not start."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "runtime", "image": "team/server:9", "restartCount": 0, "state": state}


def unscheduled(message: str) -> Any:
    """Return a pod that the scheduler finds no place for."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return pod(REVISION, conditions=[condition | {"message": message, "lastTransitionTime": ENDED}])


def refused(message: str) -> Any:
    """Return a Deployment whose pods the API server does not take."""
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    return WORKLOAD | {
        "status": {"conditions": [condition | {"message": message, "lastTransitionTime": ENDED}]}
    }


def warning(reason: str, message: str, count: int = 1) -> dict[str, Any]:
    """Return an Event of the kubelet."""
    times = {"firstTimestamp": ENDED, "lastTimestamp": ENDED}
    return {"reason": reason, "message": message, "count": count, "type": "Warning", **times}


def seen(*objects: Any, **given: Any) -> RevisionView:
    """Return what the operator sees of the revision."""
    return replace(observe(OWNER, *objects).view(REVISION), **given)
