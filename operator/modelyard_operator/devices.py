"""Accelerators of the cluster, counted: how many there are, and how many no pod has taken.

The scheduler decides; these figures only tell a person what it had to decide with.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from modelyard_operator.resources.placement import product_label
from modelyard_operator.spec import AcceleratorSpec

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Devices:
    """Devices of one kind, over all nodes that take pods.

    Attributes:
        total: How many there are.
        free: How many no pod has taken.
        largest: How many are free on the node that has most; a pod gets its devices from one node.
    """

    total: int
    free: int
    largest: int

    def __str__(self) -> str:
        """Return the words of a message: ``0 free of 2``."""
        text = f"{self.free} free of {self.total}"
        return f"{text} (at most {self.largest} on one node)" if self.largest < self.free else text


@dataclass(frozen=True)
class NodeDevices:
    """Extended resources of one node.

    Attributes:
        labels: Its labels, one of which names the product.
        total: What the node has, by resource.
        taken: What its pods have taken, by resource.
    """

    labels: Mapping[str, str]
    total: Mapping[str, int]
    taken: Mapping[str, int]


@dataclass(frozen=True)
class Inventory:
    """Devices of every node that takes pods, as of one look."""

    nodes: tuple[NodeDevices, ...] = ()

    @classmethod
    def take(cls, nodes: Iterable[Manifest], pods: Iterable[Manifest]) -> Self:
        """Count the devices of nodes and what the pods on them have taken.

        Args:
            nodes: All nodes; those that are cordoned or not ready do not count.
            pods: All pods that have not ended; one that is being deleted still has its devices.
        """
        taken: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for pod in pods:
            if node := pod.get("spec", {}).get("nodeName"):
                taken[node].update(_requests(pod))
        return cls(
            tuple(
                NodeDevices(
                    labels=node["metadata"].get("labels") or {},
                    total=devices_of(node),
                    taken=taken[node["metadata"]["name"]],
                )
                for node in nodes
                if takes_pods(node)
            )
        )

    def count(self, accelerator: AcceleratorSpec) -> Devices:
        """Return the devices that an accelerator may be."""
        name, products = accelerator.resource_name, accelerator.products
        label = product_label(name)
        fitting = [n for n in self.nodes if not products or n.labels.get(label) in products]
        free = [max(0, node.total.get(name, 0) - node.taken.get(name, 0)) for node in fitting]
        total = sum(node.total.get(name, 0) for node in fitting)
        return Devices(total, sum(free), max(free, default=0))


def takes_pods(node: Manifest) -> bool:
    """Tell whether the scheduler may put pods on a node."""
    conditions = node.get("status", {}).get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not node.get("spec", {}).get("unschedulable")


def devices_of(node: Manifest) -> dict[str, int]:
    """Return the extended resources of a node, free or not."""
    return _extended(node.get("status", {}).get("allocatable") or {})


def _requests(pod: Manifest) -> Mapping[str, int]:
    """What a pod has taken: its containers together, or one that runs first and needs more."""
    spec = pod["spec"]
    needed: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        needed.update(_limits(container))
    for container in spec.get("initContainers") or ():
        needed |= Counter(_limits(container))  # the larger of the two
    return needed


def _limits(container: Manifest) -> dict[str, int]:
    return _extended(container.get("resources", {}).get("limits") or {})


def _extended(quantities: Mapping[str, Any]) -> dict[str, int]:
    """Extended resources alone: they have a domain in their name and come in whole numbers."""
    return {
        name: int(quantity)
        for name, quantity in quantities.items()
        if "/" in name and str(quantity).isdecimal()
    }
