"""The order in which failures are looked for, and which pods need a question to the API server."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from modelyard_operator.failures.failure import Failure, RevisionView
from modelyard_operator.failures.kubelet import container_waits, mount_fails, probe_fails
from modelyard_operator.failures.placement import is_shortage, not_created, unschedulable
from modelyard_operator.failures.termination import container_failed, has_no_word
from modelyard_operator.pods import RUNTIME, container_of, container_statuses, is_placed
from modelyard_operator.runtime_contract import READY_PATH

Manifest = Mapping[str, Any]

SUSPICION: Final = timedelta(seconds=5)
"""How long a pod may take to start before the kubelet's Events are asked for."""

_ENDED: Final[Mapping[str, tuple[str, str]]] = {
    "Evicted": ("PodEvicted", "raise spec.resources, or free what the node is short of"),
    "UnexpectedAdmissionError": (
        "DeviceAllocationFailed",
        "see the node's device plugin; the device may have become unhealthy",
    ),
}


def find_failure(view: RevisionView) -> Failure | None:
    """Return why a revision does not serve; None when nothing says that it will not."""
    found = (check(view, pod) for check in _POD_CHECKS for pod in _living(view))
    failure = next(filter(None, found), None) or _pod_ended(view) or not_created(view)
    return failure.redacted() if failure else None


def find_shortage(view: RevisionView) -> Failure | None:
    """Return what the cluster lacks for a revision's pods; None when each has its place."""
    found = (unschedulable(view, pod) for pod in _living(view))
    shortage = next(filter(None, found), None)
    if shortage is None and (refused := not_created(view)) and is_shortage(refused):
        shortage = refused
    return shortage.redacted() if shortage else None


def unexplained_pods(view: RevisionView, now: datetime) -> tuple[Manifest, ...]:
    """Return the pods whose trouble only the kubelet's Events can explain.

    Those are pods that do not get to run, or run without answering their startup probe, or ended
    without a word. A pod that loads its model is none of them.

    Args:
        view: The revision.
        now: Current time, in UTC.
    """
    return tuple(pod for pod in _living(view) if _is_unexplained(view, pod, now))


def _is_unexplained(view: RevisionView, pod: Manifest, now: datetime) -> bool:
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    statuses = list(container_statuses(pod))
    if now - created < SUSPICION or not is_placed(pod) or container_waits(view, pod):
        return False  # the kubelet has not had it for long, has none, or has said why
    if any(has_no_word(status) for status in statuses):
        return True
    if all("waiting" in status.get("state", {}) for status in statuses):
        return True
    runtime = next((status for status in statuses if status["name"] == RUNTIME), {})
    running = "running" in runtime.get("state", {})
    return running and (not runtime.get("started") or _asks_otherwise(view))


def _asks_otherwise(view: RevisionView) -> bool:
    """Tell whether the user replaced the readiness probe; ours fails while the model loads."""
    probe = container_of(view.workload, RUNTIME).get("readinessProbe", {})
    return bool(probe) and probe.get("httpGet", {}).get("path") != READY_PATH


def _living(view: RevisionView) -> tuple[Manifest, ...]:
    """Pods that the kubelet has not given up; others have been replaced."""
    return tuple(pod for pod in view.pods if pod.get("status", {}).get("phase") != "Failed")


def _pod_ended(view: RevisionView) -> Failure | None:
    """Find a pod that the kubelet gave up and that no other has replaced yet."""
    newest = view.pods[0] if view.pods else {}
    status = newest.get("status", {})
    if status.get("phase") != "Failed":
        return None
    default = (f"Pod{status.get('reason', 'Failed')}", "see the message of the kubelet")
    reason, hint = _ENDED.get(status.get("reason", ""), default)
    return Failure(
        reason=reason,
        message=str(status.get("message", "the pod has failed")),
        hint=hint,
        retryable=True,
        revision=view.revision,
        pod=newest["metadata"]["name"],
    )


Check = Callable[[RevisionView, Manifest], Failure | None]
_POD_CHECKS: Final[tuple[Check, ...]] = (
    container_failed,
    container_waits,
    unschedulable,
    mount_fails,
    probe_fails,
)
