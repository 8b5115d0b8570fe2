"""Asks the pods of variants and of stable what they have counted, to compare them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from modelyard_operator.analysis.comparison import Comparison, compare, from_status, go_on
from modelyard_operator.analysis.counters import series_names
from modelyard_operator.analysis.ledger import Ledger
from modelyard_operator.errors import ScrapeError
from modelyard_operator.observed import Observed
from modelyard_operator.sources import Source
from modelyard_operator.store import Key
from modelyard_operator.variants import routed_variants

INTERVAL: Final = timedelta(seconds=30)
"""Between scrapes; each that brings news is a write of status."""

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Compared:
    """What was learnt; see ``Findings``, which takes it over."""

    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    due: datetime | None = None


@dataclass
class _Memory:
    due: datetime
    ledgers: dict[str, Ledger] = field(default_factory=dict)


class Comparing:
    """Remembers what the counters of each pod said last; the sums are in status."""

    def __init__(self) -> None:
        self._memories: dict[Key, _Memory] = {}

    async def look(
        self, key: Key, observed: Observed, stable: str | None, source: Source, now: datetime
    ) -> Compared:
        """Add one scrape for each variant that gets requests, if it is time to.

        Args:
            key: The ModelDeployment.
            observed: Its pods, its routes and its status.
            stable: Whom the variants are compared with; None while nothing is stable.
            source: Where the counters are read.
            now: Current time, in UTC.
        """
        routed = [name for name, weight in routed_variants(observed).items() if weight]
        if stable is None or not routed:
            self.forget(key)
            return Compared()
        before = from_status(observed.model_deployment.status)
        so_far = {name: go_on(before.get(name), stable, now) for name in routed}
        memory = self._memories.setdefault(key, _Memory(due=now))
        if now >= memory.due:
            memory.due = now + INTERVAL
            try:
                so_far = await _added(observed, memory, so_far, source)
            except ScrapeError as error:
                name = observed.model_deployment.name
                log.warning("variants were not compared", model_deployment=name, error=str(error))
        return Compared(so_far, memory.due)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a ModelDeployment's pods."""
        self._memories.pop(key, None)


async def _added(
    observed: Observed, memory: _Memory, so_far: Mapping[str, Comparison], source: Source
) -> dict[str, Comparison]:
    """Read all before any is counted: a failure in between must lose nothing."""
    metrics = observed.model_deployment.spec.rollout.analysis.metrics
    names = series_names(metrics)
    revisions = {*so_far, *(one.stable for one in so_far.values())}
    readings = {
        name: await source.read(name, observed.ready_pods(name), names) for name in revisions
    }
    memory.ledgers = {name: memory.ledgers.get(name) or Ledger() for name in revisions}
    grown = {name: memory.ledgers[name].grown(readings[name]) for name in revisions}
    alive = {pod["metadata"]["uid"] for pod in observed.pods}
    for name, ledger in memory.ledgers.items():
        ledger.keep(alive | readings[name].keys())
    return {
        name: compare(before, metrics, stable=grown[before.stable], variant=grown[name])
        for name, before in so_far.items()
    }
