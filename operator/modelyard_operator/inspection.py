"""Asks pods what they serve and whether it was verified; each pod once, since that does not change."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from modelyard_operator.analysis.pod_status import (
    InvalidPodStatusError,
    PodStatus,
    parse_pod_status,
    signature_change,
)
from modelyard_operator.observed import Observed
from modelyard_operator.pods import is_ready
from modelyard_operator.resources import labels
from modelyard_operator.rollout.state import Rollout, RolloutState
from modelyard_operator.scrape import Scraper
from modelyard_operator.sources import pod_addresses
from modelyard_operator.store import Key

RETRY: Final = timedelta(seconds=5)
"""Until a pod that did not answer is asked again."""
BEFORE_TRAFFIC: Final = frozenset(
    {
        RolloutState.PREPARING,
        RolloutState.WAITING_CAPACITY,
        RolloutState.WARMING,
        RolloutState.SHADOWING,
    }
)
"""States in which a breaking change can still be kept from every caller."""

Manifest = dict[str, Any]

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Inspected:
    """What the pods say of their model; see ``Findings``, which takes it over."""

    signature_change: str | None = None
    signature_unknown: bool = False
    unverified: dict[str, str] = field(default_factory=dict)
    due: datetime | None = None


@dataclass
class _Known:
    pods: dict[tuple[str, int], PodStatus] = field(default_factory=dict)
    due: datetime | None = None


class Inspection:
    """Remembers what each pod has said.

    Attributes:
        scraper: How pods are asked.
    """

    def __init__(self, scraper: Scraper) -> None:
        self.scraper = scraper
        self._known: dict[Key, _Known] = {}

    async def inspect(
        self, key: Key, observed: Observed, rollout: Rollout, now: datetime
    ) -> Inspected:
        """Ask the pods that have not answered yet, and compare what all of them say.

        Args:
            key: The ModelDeployment.
            observed: Its pods and its spec.
            rollout: As status has it.
            now: Current time, in UTC.
        """
        compared = _compared(observed, rollout)
        verified = _verified(observed, rollout)
        if not compared and not verified:
            self.forget(key)
            return Inspected()
        known = self._known.setdefault(key, _Known())
        wanted = {identity(pod): pod for pod in (*compared, *verified)}
        known.pods = {one: status for one, status in known.pods.items() if one in wanted}
        missing = [pod for one, pod in wanted.items() if one not in known.pods]
        if missing and (known.due is None or now >= known.due):
            await self._ask(observed, missing, known)
            known.due = now + RETRY
        signatures = [known.pods.get(identity(pod)) for pod in compared]
        stable, candidate = signatures or (None, None)
        unverified = {
            pod["metadata"]["labels"][labels.REVISION]: verification.problem
            or "they are answered otherwise"
            for pod in verified
            if (status := known.pods.get(identity(pod)))
            and (verification := status.verification)
            and verification.outcome == "Failed"
        }
        return Inspected(
            signature_change=signature_change(stable, candidate) if stable and candidate else None,
            signature_unknown=None in signatures,
            unverified=unverified,
            due=known.due if len(known.pods) < len(wanted) else None,
        )

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a ModelDeployment's pods."""
        self._known.pop(key, None)

    async def _ask(self, observed: Observed, pods: list[Manifest], known: _Known) -> None:
        name = observed.model_deployment.served_name
        by_uid = {pod["metadata"]["uid"]: pod for pod in pods}
        for uid, text in (await self.scraper.read_pods(pod_addresses(pods), "/status")).items():
            try:
                known.pods[identity(by_uid[uid])] = parse_pod_status(text, name)
            except InvalidPodStatusError as error:
                pod = by_uid[uid]["metadata"]["name"]
                log.warning("a pod's status does not parse", pod=pod, error=str(error))


def identity(pod: Manifest) -> tuple[str, int]:
    """Tell a pod's process from the one before a restart."""
    containers = pod.get("status", {}).get("containerStatuses") or ()
    return pod["metadata"]["uid"], sum(one.get("restartCount", 0) for one in containers)


def _compared(observed: Observed, rollout: Rollout) -> list[Manifest]:
    """Return a ready pod of stable and one of the candidate, while no caller has met the latter."""
    if rollout.state not in BEFORE_TRAFFIC:
        return []
    pairs = [
        [pod for pod in observed.pods_of(revision) if is_ready(pod)]
        for revision in (rollout.stable, rollout.candidate)
    ]
    return [pods[0] for pods in pairs] if all(pairs) else []


def _verified(observed: Observed, rollout: Rollout) -> list[Manifest]:
    """Return the ready pods that have answered golden requests when they started."""
    if observed.model_deployment.spec.rollout.verification is None or rollout.stable is None:
        return []
    return [pod for pod in observed.pods_of(rollout.stable) if is_ready(pod)]
