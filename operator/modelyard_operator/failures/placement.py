"""Pods without a place: what the scheduler, and the quota before it, says."""

import re
from collections.abc import Mapping
from typing import Any, Final

from modelyard_operator.failures.failure import Failure, RevisionView
from modelyard_operator.spec import AcceleratorSpec

Manifest = Mapping[str, Any]

_FITS: Final = "check spec.resources and spec.scheduling against the nodes"
_SCHEDULER: Final = (
    (
        re.compile(r"persistentvolumeclaim \"[^\"]+\" not found"),
        "ClaimNotFound",
        "create the PersistentVolumeClaim, or correct spec.model.uri",
    ),
    (
        re.compile(r"unbound immediate PersistentVolumeClaims|persistent volumes to bind"),
        "ClaimNotBound",
        "see why the PersistentVolumeClaim has no volume: its class, its size, its access mode",
    ),
    (
        re.compile(r"have free ports"),
        "HostPortTaken",
        "remove hostPort from spec.podTemplate, or run fewer pods than there are nodes",
    ),
    (re.compile(r"Insufficient memory"), "InsufficientMemory", _FITS),
    (re.compile(r"Insufficient cpu"), "InsufficientCPU", _FITS),
    (
        re.compile(r""),
        "Unschedulable",
        "check spec.scheduling against the nodes' labels and taints",
    ),
)
"""Words of the scheduler, our reason and the hint; what explains the rest comes first."""
_CREATION: Final = (
    (
        re.compile(r"exceeded quota"),
        "QuotaExceeded",
        "ask for less, free some of it, or have the ResourceQuota raised",
    ),
    (
        re.compile(r"failed quota"),
        "QuotaNeedsResources",
        "set in spec.resources what the ResourceQuota counts",
    ),
    (
        re.compile(r"serviceaccount \"[^\"]+\" not found"),
        "ServiceAccountNotFound",
        "create the ServiceAccount, or correct spec.serviceAccountName",
    ),
    (
        re.compile(r"violates PodSecurity"),
        "PodSecurityViolated",
        "correct spec.podTemplate; what the operator adds itself is restricted",
    ),
    (
        re.compile(r"(maximum|minimum) .* usage per (Pod|Container)"),
        "LimitRangeViolated",
        "keep spec.resources within the namespace's LimitRange",
    ),
    (
        re.compile(r""),
        "PodCreationFailed",
        "check admission policies of the namespace",
    ),
)
"""Words of the API server to the ReplicaSet, our reason and the hint."""
_NO_ROOM: Final = frozenset({"QuotaExceeded", "QuotaNeedsResources"})


def unschedulable(view: RevisionView, pod: Manifest) -> Failure | None:
    """Find what keeps the scheduler from giving a pod its place."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] != "PodScheduled" or condition.get("reason") != "Unschedulable":
            continue
        said = condition.get("message", "")
        reason, message, hint = _say(view, said)
        return Failure(
            reason=reason,
            message=message,
            hint=hint,
            retryable=True,
            revision=view.revision,
            pod=pod["metadata"]["name"],
            last_time=condition.get("lastTransitionTime"),
        )
    return None


def not_created(view: RevisionView) -> Failure | None:
    """Find what keeps a ReplicaSet from making pods: quota, policy or a missing account."""
    for condition in view.workload.get("status", {}).get("conditions") or ():
        if condition["type"] != "ReplicaFailure" or condition["status"] != "True":
            continue
        said = condition.get("message", "")
        _, reason, hint = next(row for row in _CREATION if row[0].search(said))
        return Failure(
            reason=reason,
            message=said,
            hint=hint,
            retryable=True,
            revision=view.revision,
            last_time=condition.get("lastTransitionTime"),
        )
    return None


def is_shortage(failure: Failure) -> bool:
    """Tell whether a failure of ``not_created`` is a lack of room, and not a refusal."""
    return failure.reason in _NO_ROOM


def _say(view: RevisionView, said: str) -> tuple[str, str, str]:
    accelerator = view.accelerator
    claim = "persistentvolumeclaim" in said.lower()
    if accelerator is not None and not claim and _lacks_device(accelerator, said):
        free = f", {view.devices}" if view.devices else ", and no node has them free"
        return (
            "InsufficientAccelerator",
            f"needs {_device(accelerator)}{free}: {said}",
            "add a node, free a device, or ask for fewer or for another product",
        )
    _, reason, hint = next(row for row in _SCHEDULER if row[0].search(said))
    return reason, said, hint


def _lacks_device(accelerator: AcceleratorSpec, said: str) -> bool:
    """A product is asked for by node affinity, which the scheduler then names instead of the device."""
    return accelerator.resource_name in said or (bool(accelerator.products) and "affinity" in said)


def _device(accelerator: AcceleratorSpec) -> str:
    products = f" of {' or '.join(accelerator.products)}" if accelerator.products else ""
    return f"{accelerator.count} {accelerator.resource_name}{products}"
