"""Why a model does not serve: every failure that a user can cause, as reason, message and hint.

Pure functions over pods and Deployments. The first failure found wins, in the order of the checks:
what explains the others comes first. The container's own last word (its termination message) beats
what the kubelet makes of it.

References:
    docs/reference/runtime-contract.md, "Termination messages".
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self

from modelyard_operator.errors import ModelyardOperatorError
from modelyard_operator.observed import Observed, is_ready
from modelyard_operator.spec import AcceleratorSpec

Manifest = Mapping[str, Any]

MESSAGE_LIMIT: Final = 1024


@dataclass(frozen=True)
class Failure:
    """One failure, as it goes into ``status.failure``.

    Attributes:
        reason: CamelCase; becomes the reason of Ready and Stalled.
        message: What happened.
        hint: What to do about it.
        retryable: Waiting may help, so that the object is not Stalled.
        revision: The revision that fails.
        pod: Name of the pod, where there is one.
        container: Name of the container, where there is one.
        exit_code: Exit code of the container, where it ran.
        termination_message: The container's last word, as it left it.
        count: How often the container was restarted.
        last_time: When the kubelet or the scheduler reported it, RFC 3339.
    """

    reason: str
    message: str
    hint: str
    retryable: bool = False
    revision: str | None = None
    pod: str | None = None
    container: str | None = None
    exit_code: int | None = None
    termination_message: str | None = None
    count: int | None = None
    last_time: str | None = None

    @classmethod
    def of(cls, problem: ModelyardOperatorError) -> Self:
        """Describe a spec that leads to no revision."""
        return cls(problem.reason, str(problem), problem.hint, retryable=not problem.permanent)

    def to_status(self) -> dict[str, Any]:
        """Return ``status.failure``."""
        fields = {
            "reason": self.reason,
            "message": self.message,
            "hint": self.hint,
            "revision": self.revision,
            "pod": self.pod,
            "container": self.container,
            "exitCode": self.exit_code,
            "terminationMessage": self.termination_message,
            "count": self.count,
            "lastTime": self.last_time,
        }
        return {name: value for name, value in fields.items() if value is not None}


WAITING: Final[Mapping[str, tuple[str, str, bool]]] = MappingProxyType(
    {
        "ErrImagePull": ("ImagePullFailed", "check spec.runtime.image and imagePullSecrets", True),
        "ImagePullBackOff": (
            "ImagePullFailed",
            "check spec.runtime.image and imagePullSecrets",
            True,
        ),
        "ErrImageNeverPull": ("ImagePullFailed", "load the image onto the node", True),
        "InvalidImageName": ("InvalidImageName", "correct spec.runtime.image", False),
        "CreateContainerConfigError": (
            "ContainerConfigError",
            "check the Secrets and ConfigMaps that the spec names",
            True,
        ),
        "CreateContainerError": ("ContainerCreateError", "see the message of the kubelet", True),
        "RunContainerError": (
            "ContainerCreateError",
            "check spec.runtime.args and the image",
            True,
        ),
    }
)
"""Waiting reasons of the kubelet: our reason, the hint, and whether waiting may help."""


def find_failure(
    observed: Observed, revision: str | None, accelerator: AcceleratorSpec | None
) -> Failure | None:
    """Return why a revision does not serve; None when nothing says that it will not.

    Args:
        observed: The cluster's state.
        revision: The revision that is looked at.
        accelerator: What its pods ask for, to tell a missing device from other shortages.
    """
    pods = sorted(
        (pod for pod in observed.pods_of(revision) if not is_ready(pod)),
        key=lambda pod: pod["metadata"].get("creationTimestamp", ""),
        reverse=True,
    )
    for check in _POD_CHECKS:
        for pod in pods:
            if failure := check(pod, revision, accelerator):
                return failure
    return _not_created(observed, revision)


def _container_failed(
    pod: Manifest, revision: str | None, accelerator: AcceleratorSpec | None
) -> Failure | None:
    del accelerator
    for status in _container_statuses(pod):
        terminated = _last_termination(status)
        if terminated is None or terminated.get("exitCode") == 0:
            continue
        reason, message, hint, retryable = _explain(terminated, status["name"])
        return Failure(
            reason=reason,
            message=message,
            hint=hint,
            retryable=retryable,
            revision=revision,
            pod=pod["metadata"]["name"],
            container=status["name"],
            exit_code=terminated.get("exitCode"),
            termination_message=(terminated.get("message") or "").strip()[:MESSAGE_LIMIT] or None,
            count=status.get("restartCount", 0)
            + (1 if status.get("state", {}).get("terminated") else 0),
            last_time=terminated.get("finishedAt"),
        )
    return None


def _container_waits(
    pod: Manifest, revision: str | None, accelerator: AcceleratorSpec | None
) -> Failure | None:
    del accelerator
    for status in _container_statuses(pod):
        waiting = status.get("state", {}).get("waiting") or {}
        if (known := WAITING.get(waiting.get("reason", ""))) is None:
            continue
        reason, hint, retryable = known
        # Back-off alternates with the error itself, in other words: the image names the case.
        image = f"{status['image']}: " if reason == "ImagePullFailed" else ""
        said = "cannot be pulled" if image else waiting.get("message", "").strip()
        return Failure(
            reason=reason,
            message=f"container {status['name']}: {image}{said}"[:MESSAGE_LIMIT],
            hint=hint,
            retryable=retryable,
            revision=revision,
            pod=pod["metadata"]["name"],
            container=status["name"],
        )
    return None


def _unschedulable(
    pod: Manifest, revision: str | None, accelerator: AcceleratorSpec | None
) -> Failure | None:
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] != "PodScheduled" or condition.get("reason") != "Unschedulable":
            continue
        said = condition.get("message", "")
        short = accelerator is not None and _lacks_device(accelerator, said)
        wanted = _device(accelerator) if accelerator else ""
        return Failure(
            reason="InsufficientAccelerator" if short else "Unschedulable",
            message=(f"no node has {wanted} free: {said}" if short else said)[:MESSAGE_LIMIT],
            hint="add a node, free a device, or ask for fewer or for another product"
            if short
            else "check spec.resources and spec.scheduling against the nodes",
            retryable=True,
            revision=revision,
            pod=pod["metadata"]["name"],
            last_time=condition.get("lastTransitionTime"),
        )
    return None


def _lacks_device(accelerator: AcceleratorSpec, said: str) -> bool:
    """A product is asked for by node affinity, which the scheduler then names instead of the device."""
    return accelerator.resource_name in said or (bool(accelerator.products) and "affinity" in said)


def _device(accelerator: AcceleratorSpec) -> str:
    products = f" of {' or '.join(accelerator.products)}" if accelerator.products else ""
    return f"{accelerator.count} {accelerator.resource_name}{products}"


def _not_created(observed: Observed, revision: str | None) -> Failure | None:
    """A Deployment whose ReplicaSet may not create pods: quota, policy or a missing account."""
    workload = observed.workloads.get(revision or "", {})
    for condition in workload.get("status", {}).get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Failure(
                reason="PodCreationFailed",
                message=condition.get("message", "")[:MESSAGE_LIMIT],
                hint="check quotas, admission policies and spec.serviceAccountName",
                retryable=True,
                revision=revision,
                last_time=condition.get("lastTransitionTime"),
            )
    return None


def _explain(terminated: Manifest, container: str) -> tuple[str, str, str, bool]:
    """Return reason, message, hint and whether waiting may help, for a container that ended."""
    if terminated.get("reason") == "OOMKilled":
        return (
            "OutOfMemory",
            f"container {container} was killed for memory",
            "raise spec.resources.limits.memory",
            False,
        )
    said = parse_termination_message(terminated.get("message"))
    if "reason" in said:
        return (
            str(said["reason"]),
            str(said.get("message", ""))[:MESSAGE_LIMIT],
            str(said.get("hint", ""))[:MESSAGE_LIMIT],
            bool(said.get("retryable", False)),
        )
    code = terminated.get("exitCode")
    return (
        "ContainerCrashed",
        f"container {container} ended with exit code {code}",
        "see terminationMessage",
        True,
    )


def parse_termination_message(message: str | None) -> dict[str, Any]:
    """Read a termination message of the contract; empty when it is something else."""
    try:
        said = json.loads(message or "")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _last_termination(status: Manifest) -> Manifest | None:
    now: Manifest | None = status.get("state", {}).get("terminated")
    before: Manifest | None = status.get("lastState", {}).get("terminated")
    return now or before


def _container_statuses(pod: Manifest) -> Iterator[Manifest]:
    status = pod.get("status", {})
    groups: Iterable[Any] = (status.get("initContainerStatuses"), status.get("containerStatuses"))
    for group in groups:
        yield from group or ()


Check = Callable[[Manifest, str | None, AcceleratorSpec | None], Failure | None]
_POD_CHECKS: Final[tuple[Check, ...]] = (_container_failed, _container_waits, _unschedulable)
