"""Questions to the API server that only a pod in trouble is worth: Events, and devices of nodes.

Neither is watched: Events are many and nodes change all the time, and both matter only while a pod
does not start. Answers are kept for a few seconds, so that a burst of passes asks once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from modelyard_operator.cluster import Cluster
from modelyard_operator.devices import Inventory, devices_of
from modelyard_operator.errors import ClusterForbiddenError
from modelyard_operator.failures import SUSPICION, RevisionView, unexplained_pods
from modelyard_operator.observed import Observed
from modelyard_operator.pods import is_ready

Manifest = dict[str, Any]

EVENTS_INTERVAL: Final = timedelta(seconds=5)
"""Between looks at the Events of a pod in trouble."""
INVENTORY_INTERVAL: Final = timedelta(seconds=15)
"""Between counts of the cluster's devices, for as long as a pod waits for one."""

log: Final = structlog.get_logger(__name__)


@dataclass
class Inquiry:
    """Completes what was observed by what has to be asked for.

    Attributes:
        cluster: Whom to ask.
    """

    cluster: Cluster
    _events: dict[str, tuple[datetime, tuple[Manifest, ...]]] = field(default_factory=dict)
    _inventory: tuple[datetime, Inventory | None] | None = None

    async def complete(self, observed: Observed, now: datetime) -> Observed:
        """Return the observation with the Events of unexplained pods, and with devices.

        Args:
            observed: What the watches have told.
            now: Current time, in UTC.

        Raises:
            ClusterError: The API server did not answer.
        """
        namespace = observed.model_deployment.namespace
        uids = [pod["metadata"]["uid"] for pod in _unexplained(observed, now)]
        events = {uid: await self._events_of(namespace, uid, now) for uid in uids}
        inventory = await self._count_devices(now) if _waits_for_device(observed) else None
        return replace(observed, events=events, inventory=inventory)

    async def _events_of(self, namespace: str, uid: str, now: datetime) -> tuple[Manifest, ...]:
        known = self._events.get(uid)
        if known and now - known[0] < EVENTS_INTERVAL:
            return known[1]
        self._forget_old(now)
        found = tuple(await self.cluster.list_events(namespace, uid))
        self._events[uid] = (now, found)
        return found

    def _forget_old(self, now: datetime) -> None:
        old = [uid for uid, (asked, _) in self._events.items() if now - asked > EVENTS_INTERVAL]
        for uid in old:
            del self._events[uid]

    async def _count_devices(self, now: datetime) -> Inventory | None:
        if self._inventory is None or now - self._inventory[0] >= INVENTORY_INTERVAL:
            try:
                counted = await self._take_inventory()
            except ClusterForbiddenError as error:
                # An operator of single namespaces may not see the cluster; its messages lack figures.
                log.debug("devices are not counted", error=str(error))
                counted = None
            self._inventory = (now, counted)
        return self._inventory[1]

    async def _take_inventory(self) -> Inventory:
        """Look at the pods of nodes with devices alone: those are few, and pods are many."""
        nodes = [node for node in await self.cluster.list_nodes() if devices_of(node)]
        pods: list[Manifest] = []
        for node in nodes:
            pods += await self.cluster.list_pods_on(node["metadata"]["name"])
        return Inventory.take(nodes, pods)


def asks_again(observed: Observed, now: datetime) -> datetime | None:
    """Return when the next question is due; None while nothing is in trouble.

    Args:
        observed: What the watches have told.
        now: Current time, in UTC.
    """
    if _unexplained(observed, now):
        return now + EVENTS_INTERVAL
    if _waits_for_device(observed):
        return now + INVENTORY_INTERVAL
    young = [pod for pod in observed.pods if not is_ready(pod)]
    times = [datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) for pod in young]
    suspicious = [time + SUSPICION for time in times if time + SUSPICION > now]
    return min(suspicious, default=None)


def _views(observed: Observed) -> list[RevisionView]:
    return [observed.view(revision) for revision in observed.workloads]


def _unexplained(observed: Observed, now: datetime) -> list[Mapping[str, Any]]:
    return [pod for view in _views(observed) for pod in unexplained_pods(view, now)]


def _waits_for_device(observed: Observed) -> bool:
    shortages = (observed.shortage(revision) for revision in observed.workloads)
    return any(found and found.reason == "InsufficientAccelerator" for found in shortages)
