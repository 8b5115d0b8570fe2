"""Pods that find no place: what scheduler, quotas and admission say."""

from collections.abc import Mapping
from typing import Final

from modelyard_cli.advice import advice
from modelyard_cli.advice.advice import Advice

PLACEMENT: Final[Mapping[str, Advice]] = {
    "InsufficientAccelerator": Advice(
        "Every node that could take the pod has its accelerators in use, or none of that kind.",
        "Add a node, free a device, or ask for fewer or for another product; the pod starts by "
        "itself when there is room.",
        advice.nodes,
        "shows which devices there are and who has them",
    ),
    "InsufficientMemory": Advice(
        "No node has as much memory free as the pod requests.",
        "Request less, free some, or add a node; the pod starts by itself when there is room.",
        advice.edit('{"resources":{"requests":{"memory":"QUANTITY"}}}'),
        "requests less",
    ),
    "InsufficientCPU": Advice(
        "No node has as much CPU free as the pod requests.",
        "Request less, free some, or add a node; the pod starts by itself when there is room.",
        advice.edit('{"resources":{"requests":{"cpu":"QUANTITY"}}}'),
        "requests less",
    ),
    "HostPortTaken": Advice(
        "The pod asks for a port of its node, and every node has that port in use.",
        "Remove hostPort from spec.podTemplate, or run fewer pods than there are nodes.",
        advice.open_spec,
        "opens the spec with its podTemplate",
    ),
    "ClaimNotFound": Advice(
        "The PersistentVolumeClaim of spec.model.uri does not exist in the namespace.",
        "Create it, or correct its name.",
        advice.kubectl("get pvc"),
        "shows which claims there are",
    ),
    "ClaimNotBound": Advice(
        "The PersistentVolumeClaim has no volume yet: no storage class fits its size or access mode.",
        "See why it is not bound; the pod starts by itself when it is.",
        advice.kubectl("describe pvc"),
        "shows what its storage class said",
    ),
    "Unschedulable": Advice(
        "The scheduling rules of the pod leave no node: its selectors, affinity or missing "
        "tolerations.",
        "Loosen spec.scheduling, or label or untaint a node; the pod starts by itself then.",
        advice.describe,
        "shows what the scheduler said of each group of nodes",
    ),
    "QuotaExceeded": Advice(
        "A ResourceQuota of the namespace has no room for another pod.",
        "Request less, free some of it, or have the quota raised; it is tried again by itself.",
        advice.kubectl("describe resourcequota"),
        "shows what is used of what is allowed",
    ),
    "QuotaNeedsResources": Advice(
        "A ResourceQuota counts a resource that the pod does not set, so it refuses the pod.",
        "Set that resource in spec.resources.",
        advice.kubectl("describe resourcequota"),
        "shows what has to be set",
    ),
    "LimitRangeViolated": Advice(
        "The pod's resources are outside of what the namespace's LimitRange allows.",
        "Keep spec.resources within it.",
        advice.kubectl("describe limitrange"),
        "shows what is allowed",
    ),
    "ServiceAccountNotFound": Advice(
        "The ServiceAccount that the pods run as does not exist.",
        "Create it, or correct spec.serviceAccountName; it is tried again by itself.",
        advice.kubectl("get serviceaccounts"),
        "shows which there are",
    ),
    "PodSecurityViolated": Advice(
        "The namespace enforces a Pod Security Standard that the pod does not meet.",
        "Correct spec.podTemplate: what the operator adds itself meets the restricted standard.",
        advice.open_spec,
        "opens the spec with its podTemplate",
    ),
    "PodCreationFailed": Advice(
        "The API server refuses the pods, most often because of an admission policy.",
        "Satisfy the policy that the message names; it is tried again by itself.",
        advice.account,
        "shows quotas, limits and the account",
    ),
}
