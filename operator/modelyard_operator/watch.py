"""Looks at the pods of a ModelDeployment as often as its rollout needs it.

What is remembered here is only what the counters of each pod said last; the sums are in status. A
new process begins with a scrape to compare the next one with: at most one interval is lost, and
nothing is invented.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from modelyard_operator import metrics
from modelyard_operator.analysis import objectives
from modelyard_operator.analysis.accumulate import accumulate, evaluate
from modelyard_operator.analysis.counters import Counters, series_names, tally
from modelyard_operator.analysis.findings import Findings
from modelyard_operator.analysis.ledger import Ledger
from modelyard_operator.analysis.shadow import SHADOW_SERIES, add_copies, judge_shadow
from modelyard_operator.analysis.verdicts import judge
from modelyard_operator.analysis.windows import (
    AFTER_THE_STEPS,
    Window,
    open_window,
    window_of,
)
from modelyard_operator.comparing import Comparing
from modelyard_operator.errors import ScrapeError
from modelyard_operator.inspection import Inspection
from modelyard_operator.observed import Observed
from modelyard_operator.rollout.evidence import Evidence, MetricEvidence
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.state import Rollout, RolloutState, World
from modelyard_operator.scrape import Scraper
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.sources import PROMETHEUS_INTERVAL, PodSource, PrometheusSource, Source
from modelyard_operator.store import Key

RESTING: Final = frozenset({RolloutState.IDLE, RolloutState.ROLLED_BACK})
"""States in which stable is alone."""
LONGEST_INTERVAL: Final = timedelta(seconds=60)
"""Between scrapes while the source does not answer."""

Manifest = dict[str, Any]

log: Final = structlog.get_logger(__name__)


@dataclass
class _Memory:
    """Of one window: when to look again, and what was read last."""

    window: object
    due: datetime
    queries_due: datetime
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    """Of stable outside rollouts, which is not kept in status."""
    objective: Judgement | None = None
    """The limit that stable breaks."""

    def grown(self, revision: str, readings: Mapping[str, Counters]) -> list[Counters]:
        return self.ledgers.setdefault(revision, Ledger()).grown(readings)


class Watch:
    """Learns from pods what their revisions are worth.

    Attributes:
        scraper: How pods and Prometheus are asked.
        settings: The operator's own settings.
    """

    def __init__(self, scraper: Scraper, settings: OperatorSettings) -> None:
        self.scraper = scraper
        self.settings = settings
        self._memories: dict[Key, _Memory] = {}
        self._inspection = Inspection(scraper)
        self._comparing = Comparing()

    async def look(self, key: Key, observed: Observed, world: World, now: datetime) -> Findings:
        """Ask the pods what the rollout's state needs to know, if it is time to.

        Args:
            key: The ModelDeployment.
            observed: Its pods and its spec.
            world: What the routes show.
            now: Current time, in UTC.
        """
        rollout = Rollout.from_status(observed.model_deployment.status)
        if rollout is None or observed.model_deployment.spec.suspend:
            self.forget(key)
            return Findings()
        found = await self._judged(key, observed, rollout, world, now)
        said = await self._inspection.inspect(key, observed, rollout, now)
        source = self._source(observed)
        compared = await self._comparing.look(key, observed, rollout.stable, source, now)
        times = [due for due in (found.due, said.due, compared.due) if due]
        return replace(
            found,
            signature_change=said.signature_change,
            signature_unknown=said.signature_unknown,
            unverified=said.unverified,
            comparisons=compared.comparisons,
            due=min(times, default=None),
        )

    async def _judged(
        self, key: Key, observed: Observed, rollout: Rollout, world: World, now: datetime
    ) -> Findings:
        """Look at what the state is about: copies, a window of the analysis, or stable's limits."""
        if rollout.state is RolloutState.SHADOWING:
            return await self._shadow(key, observed, rollout, now)
        spec = observed.model_deployment.spec.rollout
        if window := window_of(spec, rollout, world, now):
            return await self._analyse(key, observed, rollout, window, now)
        if rollout.state in RESTING and any(
            metric.max is not None for metric in spec.analysis.metrics
        ):
            return await self._guard(key, observed, rollout, now)
        self._memories.pop(key, None)
        return Findings()

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a ModelDeployment."""
        self._memories.pop(key, None)
        self._inspection.forget(key)
        self._comparing.forget(key)

    async def _analyse(
        self, key: Key, observed: Observed, rollout: Rollout, window: Window, now: datetime
    ) -> Findings:
        """Go on with a window, whose figures count from when the routes had settled."""
        identity = window.revision, window.step
        runs = key in self._memories and self._memories[key].window == identity
        if not runs and now < window.opens:
            self._memories.pop(key, None)
            said = "the routes are given time to settle"
            settling = Judgement(Verdict.UNDECIDED, "Settling", said)
            return Findings(judgement=settling, due=window.opens)
        memory = self._remember(key, identity, now)
        evidence = open_window(rollout.analysis, window, rollout, now)
        if now >= memory.due:
            source = self._source(observed)
            evidence = await self._scrape(observed, window, evidence, memory, now)
            memory.due = now + min(LONGEST_INTERVAL, source.interval * 2 ** min(evidence.errors, 8))
        evidence, judgement = judge(window.question, evidence)
        metrics.VERDICTS.labels(judgement.verdict.value).inc()
        return Findings(analysis=evidence, judgement=judgement, due=memory.due)

    async def _guard(
        self, key: Key, observed: Observed, rollout: Rollout, now: datetime
    ) -> Findings:
        """Hold stable to its limits outside rollouts.

        The evidence is not kept in status, which would be written for ever; only what is broken is.
        """
        spec, stable = observed.model_deployment.spec.rollout.analysis, rollout.stable or ""
        started = key not in self._memories
        memory = self._remember(key, stable, now)
        if started:
            conditions = observed.model_deployment.status.get("conditions") or ()
            memory.objective = objectives.objective_of(conditions)
        if now >= memory.due:
            question = objectives.question_of(spec)
            window = Window(stable, AFTER_THE_STEPS, None, question, opens=now)
            evidence = open_window(objectives.go_on(memory.evidence, now), window, rollout, now)
            evidence = await self._scrape(observed, window, evidence, memory, now)
            memory.evidence, memory.objective = objectives.judge_objective(
                question, evidence, memory.objective
            )
            memory.due = now + objectives.INTERVAL
        return Findings(judgement=memory.objective, objective=memory.objective, due=memory.due)

    async def _scrape(
        self,
        observed: Observed,
        window: Window,
        evidence: Evidence,
        memory: _Memory,
        now: datetime,
    ) -> Evidence:
        """Add one scrape to the evidence; one that fails is only counted."""
        try:
            found = await self._metrics(observed, window, evidence, memory, now)
        except ScrapeError as error:
            log.warning(
                "figures could not be read",
                model_deployment=observed.model_deployment.name,
                revision=window.revision,
                error=str(error),
            )
            return evidence.model_copy(update={"errors": evidence.errors + 1})
        news = found != evidence.metrics
        return evidence.model_copy(
            update={
                "errors": 0,
                "metrics": found,
                "last_scrape": now.replace(microsecond=0) if news else evidence.last_scrape,
            }
        )

    async def _metrics(
        self,
        observed: Observed,
        window: Window,
        evidence: Evidence,
        memory: _Memory,
        now: datetime,
    ) -> tuple[MetricEvidence, ...]:
        spec = observed.model_deployment.spec.rollout.analysis
        known = {one.metric: one for one in evidence.metrics}
        arms = [revision for revision in (window.revision, window.stable) if revision]
        source, names = self._source(observed), series_names(spec.metrics)
        # All are read before any is counted: a failure in between must lose nothing.
        readings = {
            revision: await source.read(revision, observed.ready_pods(revision), names)
            for revision in arms
        }
        evaluated = await self._evaluated(observed, window, known, memory, now)
        grown = {revision: memory.grown(revision, readings[revision]) for revision in arms}
        found: list[MetricEvidence] = []
        for metric in spec.metrics:
            if metric.query is not None:
                found.append(evaluated[metric.name])
                continue
            tallies = {arm: [tally(metric, counted) for counted in grown[arm]] for arm in arms}
            found.append(
                accumulate(
                    known.get(metric.name),
                    metric,
                    stable=tallies.get(window.stable or "", []),
                    candidate=tallies[window.revision],
                    renew=window.step == AFTER_THE_STEPS,
                )
            )
        return tuple(found)

    async def _evaluated(
        self,
        observed: Observed,
        window: Window,
        known: Mapping[str, MetricEvidence],
        memory: _Memory,
        now: datetime,
    ) -> dict[str, MetricEvidence]:
        """Return the evidence of every query, evaluated anew if it is time to."""
        spec, prometheus = (
            observed.model_deployment.spec.rollout.analysis,
            self._prometheus(observed),
        )
        found: dict[str, MetricEvidence] = {}
        for metric in spec.metrics:
            if metric.query is None:
                continue
            seen = known.get(metric.name) or MetricEvidence(metric=metric.name)
            if now >= memory.queries_due:
                arms = (window.stable, window.revision)
                stable, candidate = [
                    await prometheus.value(metric.query, arm) if arm else None for arm in arms
                ]
                seen = evaluate(seen, metric, stable=stable, candidate=candidate)
            found[metric.name] = seen
        if now >= memory.queries_due:
            memory.queries_due = now + PROMETHEUS_INTERVAL
        return found

    async def _shadow(
        self, key: Key, observed: Observed, rollout: Rollout, now: datetime
    ) -> Findings:
        """Add what stable's pods have compared since the last look."""
        spec, stable = observed.model_deployment.spec.rollout.shadow, rollout.stable
        if spec is None or stable is None:
            return Findings()
        memory = self._remember(key, (rollout.candidate, rollout.state_since), now)
        report = rollout.shadow
        if now >= memory.due:
            source = PodSource(self.scraper)
            memory.due = now + source.interval
            try:
                pods = observed.ready_pods(stable)
                readings = await source.read(stable, pods, SHADOW_SERIES)
            except ScrapeError as error:
                log.warning("copies could not be counted", revision=stable, error=str(error))
            else:
                report = add_copies(report, memory.grown(stable, readings))
        return Findings(shadow_report=report, shadow=judge_shadow(spec, report), due=memory.due)

    def _remember(self, key: Key, window: object, now: datetime) -> _Memory:
        memory = self._memories.get(key)
        if memory is None or memory.window != window:
            memory = self._memories[key] = _Memory(window, due=now, queries_due=now)
        return memory

    def _source(self, observed: Observed) -> Source:
        if observed.model_deployment.spec.rollout.analysis.source == "Prometheus":
            return self._prometheus(observed)
        return PodSource(self.scraper)

    def _prometheus(self, observed: Observed) -> PrometheusSource:
        return PrometheusSource(
            self.scraper, self.settings.prometheus_url, observed.model_deployment.namespace
        )
