"""A small world for the rollout machine: pods, devices, routes and a status that survive a crash.

It carries out what a pass decides in the order of ``reconcile.py`` (status, children, routes,
scales, prune) and may die after each single write. Each write is checked when it is made.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from modelyard_operator.rollout.commands import apply_command
from modelyard_operator.rollout.evidence import Evidence
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.machine import decide, wake_time
from modelyard_operator.rollout.routing import Backends, backends
from modelyard_operator.rollout.sizing import Bounds, bounds, size
from modelyard_operator.rollout.state import ACTIVE, Ask, Rollout, RolloutState, World
from modelyard_operator.spec import RolloutSpec
from testkit.operator_rollout_checks import Checks

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
HPA_MAX: Final = 6
Canary = tuple[str, int]
Quality = Literal["good", "bad", "broken", "sleeps", "fails later", "other signature", "disagrees"]
"""What is wrong with a version: nothing; requests fail; it crashes; it is never ready; it fails once
it is stable; its inputs differ; its outputs do."""
Source = Literal["fine", "down", "silent", "few", "unused"]
"""What the figures say: enough; they cannot be read; no request; too few; nobody judges."""


class CrashError(Exception):
    """The operator dies."""


@dataclass
class Cluster:
    """What would survive the operator: objects of the API server and the pods behind them."""

    routed: bool = True
    splits: bool = True
    autoscaled: bool = False
    joined: bool = False
    """One object holds primary and canary, as an HTTPRoute does, and its proxy may take its time."""
    follows: bool = True
    devices: int | None = None
    """Pods that find room in all; None is no limit."""
    replicas: dict[str, int] = field(default_factory=dict)
    placed: dict[str, int] = field(default_factory=dict)
    ready: dict[str, int] = field(default_factory=dict)
    leaving: int = 0
    starved: set[str] = field(default_factory=set)
    """Revisions of which the scheduler has found no room for a pod."""
    autoscalers: dict[str, Bounds] = field(default_factory=dict)
    selected: str | None = None
    primary: str | None = None
    canary: Canary | None = None

    def world(self) -> World:
        return World(
            ready=dict(self.ready),
            replicas=dict(self.replicas),
            primary=self.primary if self.routed else self.selected,
            canary=self.canary[0] if self.canary else None,
            canary_weight=self.canary[1] if self.canary else 0,
            followed=self.follows or not (self.joined and self.primary),
            selected=self.selected,
            splits=self.routed and self.splits,
            placed=dict(self.placed),
            leaving=self.leaving,
            unschedulable=dict.fromkeys(self.starved & self.replicas.keys(), "0 of 1 nodes"),
        )

    def create(self, revision: str) -> None:
        self.replicas[revision], self.placed[revision], self.ready[revision] = 1, 0, 0

    def resize(self, revision: str, replicas: int) -> None:
        """Set the replicas; pods that go keep their devices until they are gone."""
        self.replicas[revision] = replicas
        self.leaving += max(0, self.placed[revision] - replicas)
        self.placed[revision] = min(self.placed[revision], replicas)
        self.ready[revision] = min(self.ready[revision], replicas)

    def remove(self, revision: str) -> None:
        self.leaving += self.placed[revision]
        for pods in (self.replicas, self.placed, self.ready, self.autoscalers):
            pods.pop(revision, None)

    def schedule(self, *, gone: bool = True) -> None:
        """Let pods that were told to go be gone, and give others their place, oldest first."""
        if gone:
            self.leaving = 0
        self.starved = set()
        for revision, replicas in self.replicas.items():
            taken = sum(self.placed.values()) + self.leaving
            room = replicas if self.devices is None else max(0, self.devices - taken)
            self.placed[revision] = min(replicas, self.placed[revision] + room)
            if self.placed[revision] < replicas:
                self.starved.add(revision)

    def run_pods(self, asleep: frozenset[str] = frozenset(), percent: int = 100) -> None:
        """Schedule pods and let a share of them get ready."""
        self.schedule()
        for revision, replicas in self.replicas.items():
            if revision not in asleep:
                risen = min(self.placed[revision], -(-replicas * percent // 100))
                self.ready[revision] = max(self.ready[revision], risen)

    def autoscale(self, revision: str, wants: int) -> None:
        """What an autoscaler does when its metrics ask for a number of pods."""
        limits, has = self.autoscalers.get(revision), self.replicas.get(revision, 0)
        if limits is None or has == 0:
            return
        wants = min(max(wants, limits.floor), limits.ceiling or max(HPA_MAX, limits.floor))
        if not limits.hold or wants > has:
            self.resize(revision, wants)


@dataclass
class Simulation:
    """One ModelDeployment, its operator and its cluster."""

    ask: Ask
    cluster: Cluster = field(default_factory=Cluster)
    status: dict[str, Any] = field(default_factory=dict)
    annotation: str | None = None
    now: datetime = START
    quality: dict[str, Quality] = field(default_factory=dict)
    source: Source = "unused"
    errors: int = 0
    """Scrapes in a row that failed."""
    log: list[str] = field(default_factory=list)
    history: tuple[str, ...] = ()
    checks: Checks = field(default_factory=Checks)

    @property
    def rollout(self) -> Rollout | None:
        return Rollout.from_status(self.status)

    @property
    def asleep(self) -> frozenset[str]:
        """Revisions that are never ready."""
        never = {"sleeps", "broken"}
        return frozenset(name for name, kind in self.quality.items() if kind in never)

    def reconcile(self, crash_after: int | None = None) -> bool:
        """Run one pass, dying after the given number of writes; tells whether anything changed."""
        writes = 0
        for _ in self._pass():
            writes += 1
            if crash_after is not None and writes > crash_after:
                return True
        rollout = self.rollout
        if rollout:
            self.checks.after_a_pass(rollout, self.cluster)
        return writes > 0

    def settle(self, limit: int = 600) -> None:
        """Let everything that can become ready do so, and time pass, until nothing moves."""
        self.cluster.follows = True
        for _ in range(limit):
            moved = self.reconcile()
            before = self.cluster.world()
            self.cluster.run_pods(self.asleep)
            if moved or self.cluster.world() != before:
                continue
            rollout = self.rollout
            wake = wake_time(rollout, self.now) if rollout else None
            if wake is None:
                return
            self.now = wake
        raise AssertionError(f"still moving after {limit} passes: {self.status} {self.cluster}")

    def world(self, rollout: Rollout | None) -> World:
        """What a pass sees, evidence included."""
        kind = self.quality.get
        broken = {
            name: Judgement(Verdict.FAIL, "ContainerCrashed", "it ended with exit code 1")
            for name in self.cluster.replicas
            if kind(name) == "broken"
        }
        candidate = rollout.candidate if rollout and rollout.state in ACTIVE else None
        differs = candidate is not None and kind(candidate) == "other signature"
        return self.checks.seen(
            self.cluster.world(),
            history=self.history,
            judgement=self._judgement(rollout),
            shadow=self._comparison(rollout),
            broken=broken,
            signature_change="input x has another shape" if differs else None,
        )

    def _comparison(self, rollout: Rollout | None) -> Judgement | None:
        """What copies of live requests have shown."""
        if rollout is None or rollout.state is not RolloutState.SHADOWING:
            return None
        if self.quality.get(rollout.candidate or "") == "disagrees":
            return Judgement(Verdict.FAIL, "OutputsDiffer", "20 of 500 differ")
        fine = self.source in {"fine", "unused"}
        return Judgement(Verdict.PASS if fine else Verdict.UNDECIDED)

    def _judgement(self, rollout: Rollout | None) -> Judgement | None:
        if rollout is None or self.source == "unused":
            return None
        if rollout.state in {RolloutState.PROBATION, RolloutState.IDLE}:
            fails = self.quality.get(rollout.stable or "") == "fails later"
            return Judgement(Verdict.FAIL if fails else Verdict.UNDECIDED)
        if not rollout.weight or rollout.state not in ACTIVE:
            return None
        fails = (
            self.source in {"fine", "few"} and self.quality.get(rollout.candidate or "") == "bad"
        )
        if fails:
            return Judgement(Verdict.FAIL, "ErrorsRose", "40 of 200 failed")
        if rollout.weight == 100 and self.source != "down":
            return Judgement(Verdict.PASS)  # nobody to compare with, and no limit
        return {
            "down": Judgement(Verdict.ERROR),
            "silent": Judgement(Verdict.INCONCLUSIVE, "NoTraffic"),
            "few": Judgement(Verdict.UNDECIDED),
            "fine": Judgement(Verdict.PASS),
        }[self.source]

    def _scraped(self, rollout: Rollout) -> Rollout:
        """Count failed scrapes, as the operator does before it decides."""
        if rollout.state not in {RolloutState.ANALYZING, RolloutState.PAUSED}:
            return rollout
        self.errors = min(self.errors + 1, 5) if self.source == "down" else 0
        return rollout.model_copy(update={"analysis": Evidence(errors=self.errors)})

    def _pass(self) -> Iterator[None]:
        stored = self.rollout
        world = self.world(stored)
        before = stored
        if before:
            before = self._scraped(before)
        commanded = before
        if before and not self.ask.suspended:
            commanded = self._told(before, world)
            assert self._told(commanded, world) == commanded, "14: a replay had an effect"
        rollout = decide(self.ask, commanded, world, self.now)
        self.checks.a_step(self.ask, stored, commanded, rollout, world=world, now=self.now)
        if self._write_status(rollout, world):
            yield
        yield from self._apply(rollout, world)

    def _told(self, rollout: Rollout, world: World) -> Rollout:
        return apply_command(rollout, self.annotation, ask=self.ask, world=world, now=self.now)

    def _write_status(self, rollout: Rollout, world: World) -> bool:
        status: dict[str, Any] = {"rollout": rollout.to_status()}
        for role, revision in (("stable", rollout.stable), ("candidate", rollout.candidate)):
            if revision:
                status[role] = {"revision": revision, "weight": world.weights.get(revision, 0)}
        status = json.loads(json.dumps(status))
        assert Rollout.from_status(status) == rollout, "status does not read back as written"
        changed = self.status != status
        self.status = status
        return changed

    def _apply(self, rollout: Rollout, world: World) -> Iterator[None]:
        cluster = self.cluster
        names = filter(None, (rollout.stable, rollout.previous, rollout.candidate))
        live = list(dict.fromkeys(names))
        self.history = tuple(dict.fromkeys((*live, *self.history)))
        sizes = {name: size(self.ask, rollout, world, name) for name in live}
        for revision in live:
            if revision not in cluster.replicas:
                cluster.create(revision)
                yield
            if cluster.autoscaled and sizes[revision]:
                limits = bounds(rollout, revision, sizes[revision])
                if cluster.autoscalers.get(revision) != limits:
                    cluster.autoscalers[revision] = limits
                    yield
        wanted = backends(rollout, world, testers=bool(self.ask.spec.match))
        yield from self._route(rollout, wanted)
        for revision in live:
            if self._scale(rollout, revision, sizes[revision]):
                yield
        yield from self._prune(rollout, wanted, live, sizes)
        for revision in live:  # the autoscaler follows its bounds
            cluster.autoscale(revision, cluster.replicas.get(revision, 0))

    def _route(self, rollout: Rollout, wanted: Backends) -> Iterator[None]:
        cluster = self.cluster
        selected = wanted.whole or wanted.primary or rollout.candidate
        if self.ask.suspended or selected is None:
            return
        if cluster.selected != selected:
            self._write_route(rollout, selected=selected)
            yield
        if not cluster.routed or wanted.primary is None:
            return
        if cluster.joined:
            canary = self._canary(wanted)
            canary = None if canary and canary[0] == wanted.primary else canary
            if (cluster.primary, cluster.canary) != (wanted.primary, canary):
                self._write_route(rollout, primary=wanted.primary, canary=canary)
                yield
            return
        if cluster.primary != wanted.primary:
            self._write_route(rollout, primary=wanted.primary)
            yield
        canary = self._canary(wanted)
        if canary and cluster.canary != canary:
            self._write_route(rollout, canary=canary)
            yield

    def _canary(self, wanted: Backends) -> Canary | None:
        if self.cluster.splits and self.cluster.routed and wanted.canary:
            return wanted.canary, wanted.weight
        return None

    def _scale(self, rollout: Rollout, revision: str, wants: int) -> bool:
        cluster = self.cluster
        has = cluster.replicas[revision]
        ruled = revision in cluster.autoscalers or (cluster.autoscaled and wants > 0)
        if has == wants or (ruled and has != 0):
            return False
        self.checks.a_scale(self.ask, rollout, cluster, revision, wants)
        cluster.resize(revision, wants)
        self.log.append(f"scale {revision} {has} -> {wants} in {rollout.state}")
        return True

    def _prune(
        self, rollout: Rollout, wanted: Backends, live: list[str], sizes: dict[str, int]
    ) -> Iterator[None]:
        cluster = self.cluster
        keep = cluster.routed and not self.ask.suspended and wanted.primary is not None
        if cluster.primary and not keep:
            gone = {"primary": None, "canary": None} if cluster.joined else {"primary": None}
            self._write_route(rollout, **gone)
            yield
        if cluster.canary and not (keep and self._canary(wanted)):
            self._write_route(rollout, canary=None)
            yield
        if cluster.selected and self.ask.suspended:
            cluster.selected = None
            yield
        for revision in [name for name in cluster.autoscalers if not sizes.get(name)]:
            del cluster.autoscalers[revision]
            yield
        for revision in [name for name in cluster.replicas if name not in live]:
            self.checks.a_removal(self.ask, rollout, cluster, revision, self.now)
            cluster.remove(revision)
            yield

    def _write_route(self, rollout: Rollout, **change: Any) -> None:
        before = self.cluster.world()
        for field_name, value in change.items():
            setattr(self.cluster, field_name, value)
        after = self.cluster.world()
        if after.weights != before.weights:
            self.log.append(f"route {after.weights} in {rollout.state}")
        divides = before.splits or "canary" not in change
        self.checks.a_route(self.ask, rollout, before, after, now=self.now, divides=divides)


def ask_for(target: str, *, replicas: int = 2, **rollout: Any) -> Ask:
    """What a user wants, with short steps and no probation unless given."""
    steps = rollout.pop("steps", [{"weight": 10}, {"weight": 50}, {"weight": 100}])
    given = {"steps": steps, "bakeSeconds": 20, "probationSeconds": 0, **rollout}
    return Ask(target=target, replicas=replicas, spec=RolloutSpec.model_validate(given))


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)
