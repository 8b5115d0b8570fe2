"""Everything that can happen to the rollout machine, in any order; it must keep its invariants.

1. The weights of the routes sum up to 100. 2. No write gives weight to a revision without a ready
endpoint. 3. The last ready pod of a revision with weight is never removed. 4. Stable changes only
with a confirmed route. 5. An edit neither changes stable nor lowers its share. 6. After a rollback
stable has all of the traffic and its full size, and the candidate has no pods. 7. No more revisions
have pods than are in use, and those that are have them. 8. Without events, every run comes to rest.
9. A pass at rest writes nothing. 10. No step passes without evidence. 11. A rejected revision is not
retried unasked. 12. Replicas are not written under an autoscaler. 13. Pods come before a weight, and
go after it. 14. A replayed command has no effect. A rollout with a downtime that was asked for is
free of 2 and 3. Single writes are checked in ``testkit/operator_rollout_checks.py``.
"""

import os
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from modelyard_operator.rollout.routing import returns_to
from modelyard_operator.rollout.state import Rollout, RolloutState
from modelyard_operator.rollout.transitions import wanted
from modelyard_operator.spec import RolloutSpec
from testkit.operator_rollout import Cluster, Simulation, ask_for, seconds

CHAOS = os.environ.get("HYPOTHESIS_PROFILE") == "chaos"

REVISIONS = ("fraud-a", "fraud-b", "fraud-c", "fraud-d")
STEPS = (
    [{"weight": 5}, {"weight": 25}, {"weight": 50}, {"weight": 100}],
    [{"weight": 100}],
    [{"weight": 100, "pause": "Manual", "bakeSeconds": 30}],
    [{"weight": 20, "pause": "Manual"}, {"weight": 100}],
    [{"weight": 1, "bakeSeconds": 0}, {"weight": 99, "bakeSeconds": 0}, {"weight": 100}],
)
QUALITIES = (
    "good",
    "good",
    "good",
    "bad",
    "broken",
    "sleeps",
    "fails later",
    "other signature",
    "disagrees",
)
SOURCES = ("unused", "fine", "fine", "few", "silent", "down")
VERBS = ("promote", "promote", "promote-full", "pause", "resume", "abort", "retry", "rollback-to")
revisions = st.sampled_from(REVISIONS)
shares = st.sampled_from([100, 100, 100, 50, 0])
paces = st.sampled_from([1.0, 6.0, 25.0])
policies = st.fixed_dictionaries(
    {
        "steps": st.sampled_from(STEPS),
        "strategy": st.sampled_from(["Canary", "Canary", "Canary", "BlueGreen", "Recreate"]),
        "probationSeconds": st.sampled_from([0, 60]),
        "match": st.sampled_from([[], [], [{"header": {"name": "X-Canary", "value": "always"}}]]),
        "shadow": st.sampled_from([None, None, {"percent": 10}]),
        "onSLOViolation": st.sampled_from(["Ignore", "Rollback"]),
        "capacity": st.fixed_dictionaries(
            {
                "mode": st.sampled_from(["Auto", "Auto", "Surge", "Exchange", "Recreate"]),
                "onTimeout": st.sampled_from(["Rollback", "Rollback", "Pause"]),
                "waitSeconds": st.just(120),
            }
        ),
        "analysis": st.fixed_dictionaries(
            {
                "onInconclusive": st.sampled_from(["Pause", "Promote", "Rollback"]),
                "onNoTraffic": st.sampled_from(["Promote", "Pause"]),
            }
        ),
    }
)


class RolloutMachine(RuleBasedStateMachine):
    """Edits, commands, deaths, crashes and time, in any order."""

    sim: Simulation
    commands: int

    @initialize(
        routed=st.sampled_from([True, True, True, False]),
        splits=st.sampled_from([True, True, False]),
        autoscaled=st.booleans(),
        joined=st.booleans(),
        policy=policies,
        replicas=st.integers(1, 4),
        room=st.sampled_from([None, None, 0, 0, 1, 2, 4]),
        qualities=st.lists(st.sampled_from(QUALITIES), min_size=4, max_size=4),
        source=st.sampled_from(SOURCES),
        served=st.sampled_from([True, True, True, False]),
    )
    def begin(
        self,
        *,
        routed: bool,
        splits: bool,
        autoscaled: bool,
        joined: bool,
        policy: dict[str, Any],
        replicas: int,
        room: int | None,
        qualities: list[Any],
        source: Any,
        served: bool,
    ) -> None:
        ask = ask_for(REVISIONS[0], replicas=replicas, **policy)
        devices = None if room is None else replicas + room
        cluster = Cluster(routed, splits, autoscaled, joined, devices=devices)
        self.sim = Simulation(ask, cluster, source=source)
        self.sim.quality = dict(zip(REVISIONS, ("good", *qualities[1:]), strict=True))
        self.commands = 0
        if served:  # most of what matters happens after the first revision
            self.sim.settle()

    @rule(revision=revisions)
    def edit(self, revision: str) -> None:
        self.sim.ask = replace(self.sim.ask, target=revision)

    @rule(revision=revisions, passes=st.integers(1, 25), share=shares, pace=paces)
    def edit_and_go_on(self, revision: str, passes: int, share: int, pace: float) -> None:
        self.sim.ask = replace(self.sim.ask, target=revision)
        self.go_on(passes, share, pace)

    @rule(passes=st.integers(1, 25), share=shares, pace=paces)
    def go_on(self, passes: int, share: int, pace: float) -> None:
        """Let the operator work while pods become ready and time passes."""
        for _ in range(passes):
            self.sim.reconcile()
            self.some_ready(share)
            self.sim.now += seconds(pace)

    @rule()
    def edit_back(self) -> None:
        rollout = self.sim.rollout
        if rollout and rollout.stable:
            self.edit(rollout.stable)

    @rule()
    def edit_back_in_probation(self) -> None:
        rollout = self.sim.rollout
        if rollout and rollout.previous:
            self.edit(rollout.previous)

    @rule(replicas=st.integers(0, 4))
    def scale(self, replicas: int) -> None:
        self.sim.ask = replace(self.sim.ask, replicas=replicas)

    @rule(policy=policies)
    def edit_policy(self, policy: dict[str, Any]) -> None:
        asked = {**policy, "paused": self.sim.ask.spec.paused, "bakeSeconds": 10}
        self.sim.ask = replace(self.sim.ask, spec=RolloutSpec.model_validate(asked))

    @rule(paused=st.booleans())
    def pause_spec(self, *, paused: bool) -> None:
        spec = self.sim.ask.spec.model_copy(update={"paused": paused})
        self.sim.ask = replace(self.sim.ask, spec=spec)

    @rule(suspended=st.sampled_from([False, False, True]))
    def suspend(self, *, suspended: bool) -> None:
        self.sim.ask = replace(self.sim.ask, suspended=suspended)

    @rule(verb=st.sampled_from([*VERBS, "explode"]), at=st.sampled_from(["candidate", "stable"]))
    def command(self, verb: str, at: str) -> None:
        rollout = self.sim.rollout
        self.commands += 1
        named = (rollout and getattr(rollout, at)) or "fraud-x"
        self.sim.annotation = f"{verb}@{named}#{self.commands}"

    @rule(verb=st.sampled_from(["retry", "rollback-to"]), revision=revisions)
    def command_about_any(self, verb: str, revision: str) -> None:
        self.commands += 1
        self.sim.annotation = f"{verb}@{revision}#{self.commands}"

    @rule(text=st.sampled_from(["promote@fraud-x#w", "promote", "pause@fraud-b#", "", None]))
    def bad_command(self, text: str | None) -> None:
        self.sim.annotation = text

    @precondition(lambda self: self.sim.annotation)
    @rule()
    def stale_command(self) -> None:
        """The annotation outlives the status that knew it: it may count once more, no worse."""
        self.sim.status = {}
        self.sim.checks.forget()

    @rule()
    def lose_status(self) -> None:
        self.sim.status, self.sim.annotation = {}, None
        self.sim.checks.forget()

    @rule(percent=st.integers(0, 100))
    def some_ready(self, percent: int) -> None:
        self.sim.cluster.run_pods(self.sim.asleep, percent)

    @rule(gone=st.booleans())
    def schedule(self, *, gone: bool) -> None:
        self.sim.cluster.schedule(gone=gone)

    @rule()
    def all_ready(self) -> None:
        self.sim.cluster.run_pods(self.sim.asleep)

    @rule(revision=revisions, left=st.integers(0, 2), lost=st.booleans())
    def pods_die(self, revision: str, left: int, *, lost: bool = False) -> None:
        """Containers end, or pods are lost with their node and somebody else takes the device."""
        cluster = self.sim.cluster
        if revision in cluster.ready:
            cluster.ready[revision] = min(cluster.ready[revision], left)
            if lost:
                cluster.placed[revision] = min(cluster.placed[revision], left)

    @precondition(lambda self: self.sim.cluster.devices)
    @rule(devices=st.integers(0, 8))
    def devices_come_and_go(self, devices: int) -> None:
        """Others give up devices, or take those that are free."""
        self.sim.cluster.devices = max(devices, 1, sum(self.sim.cluster.placed.values()))

    @precondition(lambda self: self.sim.cluster.devices)
    @rule(revision=revisions, weight=st.sampled_from([1, 50, 100]), back=st.booleans())
    def others_take_the_room_of_stable(self, revision: str, weight: int, *, back: bool) -> None:
        """Stable's node is lost, and what is left is just enough for the candidate."""
        self.edit(revision)
        for _ in range(40):
            self.go_on(1, 100, 25)
            rollout, cluster = self.sim.rollout, self.sim.cluster
            if rollout and rollout.candidate and rollout.stable and rollout.weight >= weight:
                self.pods_die(rollout.stable, 0, lost=True)
                cluster.devices = sum(cluster.placed.values())
                self.edit(rollout.stable if back else REVISIONS[-1])
                return

    @rule(revision=revisions)
    def candidate_dies_with_all_of_the_traffic(self, revision: str) -> None:
        """At the last step, before it is promoted; and time goes on."""
        self.edit(revision)
        for _ in range(40):
            self.go_on(1, 100, 6)
            rollout = self.sim.rollout
            if rollout and (rollout.state, rollout.weight) == (RolloutState.SHIFTING, 100):
                self.pods_die(rollout.candidate or "", 0)
                break
        for _ in range(3):
            self.sim.reconcile()
            self.sim.now += seconds(30)

    @rule(source=st.sampled_from(SOURCES))
    def source_changes(self, source: Any) -> None:
        self.sim.source = source

    @rule(revision=revisions, quality=st.sampled_from(QUALITIES))
    def quality_changes(self, revision: str, quality: Any) -> None:
        self.sim.quality[revision] = quality

    @rule(back=st.booleans())
    def stable_dies_during_an_edit(self, *, back: bool) -> None:
        rollout = self.sim.rollout
        if rollout and rollout.stable:
            self.pods_die(rollout.stable, 0)
            self.edit(rollout.stable if back else REVISIONS[-1])

    @rule(passes=st.integers(0, 6))
    def crash_before_the_routes_and_the_candidate_dies(self, passes: int) -> None:
        self.go_on(passes, 100, 25)
        self.sim.reconcile(crash_after=0)
        rollout = self.sim.rollout
        if rollout and rollout.candidate:
            self.pods_die(rollout.candidate, 0)
        self.sim.reconcile()

    @rule(verb=st.sampled_from(["promote", "resume", "promote-full"]))
    def candidate_dies_before_a_command(self, verb: str) -> None:
        rollout = self.sim.rollout
        if rollout and rollout.candidate:
            self.pods_die(rollout.candidate, 0)
            self.sim.reconcile()
            self.command(verb, "candidate")

    @precondition(lambda self: self.sim.cluster.autoscaled)
    @rule(revision=revisions, replicas=st.integers(1, 6))
    def autoscale(self, revision: str, replicas: int) -> None:
        self.sim.cluster.autoscale(revision, replicas)

    @rule(number=st.sampled_from([0.4, 1, 5, 6, 30, 130, 4000]))
    def time_passes(self, number: float) -> None:
        self.sim.now += seconds(number)

    @rule(number=st.integers(1, 6))
    def passes(self, number: int) -> None:
        for _ in range(number):
            self.sim.reconcile()

    @rule(writes=st.integers(0, 6))
    def crash(self, writes: int) -> None:
        self.sim.reconcile(crash_after=writes)

    @rule(revision=revisions)
    def route_deleted(self, revision: str) -> None:
        """Somebody deletes a route by hand."""
        if self.sim.cluster.canary and self.sim.cluster.canary[0] == revision:
            self.sim.cluster.canary = None

    @rule(follows=st.booleans())
    def proxy_follows(self, *, follows: bool) -> None:
        """The proxy takes the routes over, or does not get round to it."""
        self.sim.cluster.follows = follows

    @rule(splits=st.booleans())
    def proxy_mapped(self, *, splits: bool) -> None:
        """The operator's setting for the IngressClass changes."""
        self.sim.cluster.splits = splits

    @invariant()
    def the_sum_is_100(self) -> None:
        weights = self.sim.cluster.world().weights if hasattr(self, "sim") else {}
        assert sum(weights.values()) in {0, 100}

    def teardown(self) -> None:
        if not hasattr(self, "sim"):
            return
        sim = self.sim
        sim.settle()
        rollout, cluster = sim.rollout, sim.cluster
        assert rollout is not None
        assert not sim.reconcile(), "9: a fixed point is not one"
        if sim.ask.suspended:
            assert rollout.state is RolloutState.INITIALIZING
            assert (cluster.replicas, cluster.primary, cluster.canary) == ({}, None, None)
            return
        check_rest(sim, rollout)


def check_rest(sim: Simulation, rollout: Rollout) -> None:
    """Check where a run has come to rest."""
    cluster, state = sim.cluster, rollout.state
    if state is RolloutState.UNAVAILABLE:
        assert not cluster.ready.get(rollout.candidate or "")
        return
    if state is RolloutState.PAUSED:
        assert rollout.candidate == wanted(sim.ask, rollout)
        return
    if state is RolloutState.ROLLING_BACK:
        check_nobody_to_return_to(sim, rollout)
        return
    assert state in {RolloutState.IDLE, RolloutState.ROLLED_BACK}, f"8: rests in {state}"
    stable = rollout.stable or ""
    assert stable == wanted(sim.ask, rollout)
    assert (state is RolloutState.IDLE) == (stable == sim.ask.target)
    assert cluster.world().weights == {stable: 100}, "6: traffic is not at stable"
    assert cluster.replicas.keys() == {stable}, "6: the candidate has pods"
    if not cluster.autoscaled:
        assert cluster.replicas[stable] == sim.ask.replicas, "6: stable has not its size"


def check_nobody_to_return_to(sim: Simulation, rollout: Rollout) -> None:
    """A rollback waits while its goal cannot serve: its pods never come up, or the only room is
    taken by the last pod that serves, and nobody has asked for a downtime."""
    home, left = returns_to(rollout)
    cluster = sim.cluster
    serves_alone = cluster.replicas[left] == 1 and home in cluster.starved
    patient = sim.ask.spec.capacity.mode in {"Auto", "Surge"}
    assert home in sim.asleep or (serves_alone and patient), "6: a rollback is starved"


def explore(examples: int, *, shrink: bool = True, drawn: bool = CHAOS) -> None:
    """Run the machine, with the same examples each time or with some that are drawn at random."""
    phases = tuple(Phase) if shrink else (Phase.generate,)
    run_state_machine_as_test(
        RolloutMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=not drawn,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )
