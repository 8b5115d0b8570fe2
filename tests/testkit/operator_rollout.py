"""A small world for the rollout machine: pods, routes and a status that survive a crash.

It carries out what a pass decides in the order of ``reconcile.py`` (status, children, routes,
scales, prune) and may die after each single write. Each write is checked when it is made.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from modelyard_operator.rollout.commands import apply_command
from modelyard_operator.rollout.machine import (
    SETTLE,
    Backends,
    backends,
    decide,
    size,
    wake_time,
)
from modelyard_operator.rollout.state import ACTIVE, Ask, Rollout, RolloutState, World
from modelyard_operator.spec import RolloutSpec

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
Canary = tuple[str, int]


class CrashError(Exception):
    """The operator dies."""


@dataclass
class Cluster:
    """What would survive the operator: objects of the API server and the pods behind them."""

    routed: bool = True
    splits: bool = True
    autoscaled: bool = False
    replicas: dict[str, int] = field(default_factory=dict)
    ready: dict[str, int] = field(default_factory=dict)
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
            selected=self.selected,
            splits=self.routed and self.splits,
        )


@dataclass
class Simulation:
    """One ModelDeployment, its operator and its cluster."""

    ask: Ask
    cluster: Cluster = field(default_factory=Cluster)
    status: dict[str, Any] = field(default_factory=dict)
    annotation: str | None = None
    now: datetime = START
    log: list[str] = field(default_factory=list)
    served_until: dict[str, datetime] = field(default_factory=dict)
    """When each revision was last named by a route that this operator changed."""
    unguarded: set[str | None] = field(default_factory=set)
    """Revisions that came or went while the user wanted no pods."""

    @property
    def rollout(self) -> Rollout | None:
        return Rollout.from_status(self.status)

    def reconcile(self, crash_after: int | None = None) -> bool:
        """Run one pass, dying after the given number of writes; tells whether anything changed."""
        writes = 0
        for _ in self._pass():
            writes += 1
            if crash_after is not None and writes > crash_after:
                return True
        return writes > 0

    def settle(self, limit: int = 500) -> None:
        """Let everything that can become ready do so, and time pass, until nothing moves."""
        for _ in range(limit):
            moved = self.reconcile()
            if moved:
                continue
            if self.cluster.ready != self.cluster.replicas:
                self.cluster.ready = dict(self.cluster.replicas)
                continue
            rollout = self.rollout
            wake = wake_time(rollout, self.now) if rollout else None
            if wake is None:
                return
            self.now = wake
        raise AssertionError(f"still moving after {limit} passes: {self.status} {self.cluster}")

    def _pass(self) -> Iterator[None]:
        world = self.cluster.world()
        stored = self.rollout
        before = stored
        if before and not self.ask.suspended:
            before = apply_command(before, self.annotation, world, self.now)
            again = apply_command(before, self.annotation, world, self.now)
            assert again == before, "a replayed command had an effect"
        rollout = decide(self.ask, before, world, self.now)
        self._check_stable(stored, rollout, world)
        if self.ask.replicas == 0:
            self.unguarded |= {rollout.stable, rollout.candidate}
        if self._write_status(rollout, world):
            yield
        yield from self._apply(rollout, world)

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
        for revision in live:
            if revision not in cluster.replicas:
                cluster.replicas[revision], cluster.ready[revision] = 1, 0
                yield
        wanted = backends(rollout, world)
        yield from self._route(rollout, wanted)
        for revision in live:
            wants = size(self.ask, rollout, world, revision)
            if self._scale(rollout, revision, wants):
                yield
        yield from self._prune(rollout, wanted, live)

    def _route(self, rollout: Rollout, wanted: Backends) -> Iterator[None]:
        cluster = self.cluster
        selected = wanted.primary or rollout.candidate
        if self.ask.suspended or selected is None:
            return
        if cluster.selected != selected:
            self._write_route(rollout, selected=selected)
            yield
        if not cluster.routed or wanted.primary is None:
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
        if cluster.autoscaled and has:
            wants = max(has, wants, 1)  # the autoscaler follows its floor
        if has == wants:
            return False
        serves = cluster.world().weights.get(revision, 0)
        by_autoscaler = cluster.autoscaled and has > 0
        assert wants or not serves or self.ask.replicas == 0, f"{revision} serves, scaled to 0"
        cluster.replicas[revision] = wants
        cluster.ready[revision] = min(cluster.ready[revision], wants)
        self.log.append(f"scale {revision} {has} -> {wants} in {rollout.state}")
        return not by_autoscaler

    def _prune(self, rollout: Rollout, wanted: Backends, live: list[str]) -> Iterator[None]:
        cluster = self.cluster
        keep = cluster.routed and not self.ask.suspended and wanted.primary is not None
        if cluster.primary and not keep:
            self._write_route(rollout, primary=None)
            yield
        if cluster.canary and not (keep and self._canary(wanted)):
            self._write_route(rollout, canary=None)
            yield
        if cluster.selected and self.ask.suspended:
            cluster.selected = None
            yield
        for revision in [name for name in cluster.replicas if name not in live]:
            named = {cluster.primary, cluster.selected, cluster.canary and cluster.canary[0]}
            assert revision not in named, f"{revision} pruned while a route names it"
            served = self.served_until.pop(revision, None)
            settled = served is None or self.now - served >= SETTLE - seconds(1)
            free = rollout.stable is None or revision in self.unguarded
            assert settled or free or self.ask.replicas == 0, f"{revision} went at once"
            self.unguarded.discard(revision)
            del cluster.replicas[revision], cluster.ready[revision]
            yield

    def _write_route(self, rollout: Rollout, **change: Any) -> None:
        before = self.cluster.world()
        for field_name, value in change.items():
            setattr(self.cluster, field_name, value)
        after = self.cluster.world()
        if before.splits or "canary" not in change:
            lost = before.weights.keys() - after.weights.keys()
            self.served_until |= dict.fromkeys(lost, self.now)
        self.log.append(f"route {after.weights} in {rollout.state}")
        assert not after.weights or sum(after.weights.values()) == 100
        assert all(weight > 0 for weight in after.weights.values())
        stable = rollout.stable or ""
        if self.ask.replicas == 0 or self.ask.suspended or not before.replicas.get(stable):
            return  # nobody asks for anything to serve, or did until now
        if before.ready.get(stable):
            self.unguarded.discard(stable)
        if stable in self.unguarded:
            return  # it became stable while no pods were wanted
        if "canary" in change and not before.splits:
            return  # the proxy divides nothing any more, whatever the route says
        grown = {
            revision
            for revision, weight in after.weights.items()
            if weight > before.weights.get(revision, 0)
        }
        losing = before.weights.keys() - grown
        if before.weights and any(before.ready.get(revision) for revision in losing):
            dead = {revision for revision in grown if not after.ready.get(revision)}
            assert not dead, f"{before.weights} -> {after.weights}: {dead} has no ready pod"
        lowered = after.weights.get(stable, 0) < before.weights.get(stable, 0)
        assert not lowered or rollout.candidate == self.ask.target, "an edit took share from stable"

    def _check_stable(self, before: Rollout | None, after: Rollout, world: World) -> None:
        if before is None:
            kept = {world.primary, world.selected, None}
            assert after.stable in kept, "recovery invented a stable revision"
            lost = not self.ask.suspended and world.primary and after.stable != world.primary
            assert not lost, "recovery lost the stable revision"
            return
        if after.stable == before.stable:
            return
        if after.stable is None:
            assert self.ask.suspended
        elif after.state is RolloutState.PROMOTING:
            assert before.state in ACTIVE
            assert world.weights == {after.stable: 100}, "promoted before the route was confirmed"
            assert after.previous == before.stable
        else:
            assert after.state is RolloutState.IDLE
            assert after.stable == self.ask.target
            first = before.state is RolloutState.INITIALIZING and world.ready.get(after.stable)
            assert first or self.ask.replicas == 0
            self.served_until.clear()  # at 0 replicas nothing served, so nothing is waited for
            self.unguarded |= {before.stable, before.candidate, after.stable}


def ask_for(target: str, *, replicas: int = 2, **rollout: Any) -> Ask:
    """What a user wants, with short steps unless given."""
    steps = rollout.pop("steps", [{"weight": 10}, {"weight": 50}, {"weight": 100}])
    spec = RolloutSpec.model_validate({"steps": steps, "bakeSeconds": 20, **rollout})
    return Ask(target=target, replicas=replicas, spec=spec)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)
