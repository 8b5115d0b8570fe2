"""The rollout machine against everything that can happen to it.

``HYPOTHESIS_PROFILE=chaos`` (``make chaos``) asks for many more runs, drawn at random.
"""

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from modelyard_operator.rollout.state import RolloutState
from modelyard_operator.spec import RolloutSpec
from testkit.operator_rollout import Cluster, Simulation, ask_for, seconds

CHAOS = os.environ.get("HYPOTHESIS_PROFILE") == "chaos"
EXAMPLES = int(os.environ.get("MODELYARD_ROLLOUT_EXAMPLES") or (20_000 if CHAOS else 600))

REVISIONS = ("fraud-a", "fraud-b", "fraud-c", "fraud-d")
STEPS = (
    [{"weight": 5}, {"weight": 25}, {"weight": 50}, {"weight": 100}],
    [{"weight": 100}],
    [{"weight": 100, "pause": "Manual", "bakeSeconds": 30}],
    [{"weight": 20, "pause": "Manual"}, {"weight": 100}],
    [{"weight": 1, "bakeSeconds": 0}, {"weight": 99, "bakeSeconds": 0}, {"weight": 100}],
)
revisions = st.sampled_from(REVISIONS)
shares = st.sampled_from([100, 100, 100, 50, 0])
paces = st.sampled_from([1.0, 6.0, 25.0])


class RolloutMachine(RuleBasedStateMachine):
    """Edits, commands, deaths, crashes and time, in any order."""

    sim: Simulation
    commands: int

    @initialize(
        routed=st.sampled_from([True, True, True, False]),
        splits=st.sampled_from([True, True, False]),
        autoscaled=st.booleans(),
        steps=st.sampled_from(STEPS),
        replicas=st.integers(1, 4),
        served=st.booleans(),
    )
    def begin(
        self,
        *,
        routed: bool,
        splits: bool,
        autoscaled: bool,
        steps: list[object],
        replicas: int,
        served: bool,
    ) -> None:
        ask = ask_for(REVISIONS[0], replicas=replicas, steps=steps)
        self.sim = Simulation(ask, Cluster(routed, splits, autoscaled))
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

    @rule(replicas=st.integers(0, 4))
    def scale(self, replicas: int) -> None:
        self.sim.ask = replace(self.sim.ask, replicas=replicas)

    @rule(steps=st.sampled_from(STEPS))
    def edit_steps(self, steps: list[object]) -> None:
        asked = {"steps": steps, "paused": self.sim.ask.spec.paused, "bakeSeconds": 10}
        self.sim.ask = replace(self.sim.ask, spec=RolloutSpec.model_validate(asked))

    @rule(paused=st.booleans())
    def pause_spec(self, *, paused: bool) -> None:
        spec = self.sim.ask.spec.model_copy(update={"paused": paused})
        self.sim.ask = replace(self.sim.ask, spec=spec)

    @rule(suspended=st.sampled_from([False, False, True]))
    def suspend(self, *, suspended: bool) -> None:
        self.sim.ask = replace(self.sim.ask, suspended=suspended)

    @rule(verb=st.sampled_from(["promote", "promote", "pause", "resume", "explode"]))
    def command(self, verb: str) -> None:
        rollout = self.sim.rollout
        self.commands += 1
        candidate = (rollout and rollout.candidate) or "fraud-x"
        self.sim.annotation = f"{verb}@{candidate}#{self.commands}"

    @rule(text=st.sampled_from(["promote@fraud-x#w", "promote", "pause@fraud-b#", "", None]))
    def bad_command(self, text: str | None) -> None:
        self.sim.annotation = text

    @precondition(lambda self: self.sim.annotation)
    @rule()
    def stale_command(self) -> None:
        """The annotation outlives the status that knew it: it may count once more, no worse."""
        self.sim.status, self.sim.served_until = {}, {}

    @rule()
    def lose_status(self) -> None:
        self.sim.status, self.sim.served_until, self.sim.annotation = {}, {}, None

    @rule(percent=st.integers(0, 100))
    def some_ready(self, percent: int) -> None:
        cluster = self.sim.cluster
        for revision, replicas in cluster.replicas.items():
            cluster.ready[revision] = max(cluster.ready[revision], replicas * percent // 100)

    @rule()
    def all_ready(self) -> None:
        self.sim.cluster.ready = dict(self.sim.cluster.replicas)

    @rule(revision=revisions, left=st.integers(0, 2))
    def pods_die(self, revision: str, left: int) -> None:
        ready = self.sim.cluster.ready
        if revision in ready:
            ready[revision] = min(ready[revision], left)

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

    @rule(verb=st.sampled_from(["promote", "resume"]))
    def candidate_dies_before_a_command(self, verb: str) -> None:
        rollout = self.sim.rollout
        if rollout and rollout.candidate:
            self.pods_die(rollout.candidate, 0)
            self.sim.reconcile()
            self.command(verb)

    @precondition(lambda self: self.sim.cluster.autoscaled)
    @rule(revision=revisions, replicas=st.integers(1, 6))
    def autoscale(self, revision: str, replicas: int) -> None:
        if self.sim.cluster.replicas.get(revision):
            self.sim.cluster.replicas[revision] = replicas
            self.pods_die(revision, replicas)

    @rule(number=st.sampled_from([0.4, 1, 5, 6, 30, 4000]))
    def time_passes(self, number: float) -> None:
        self.sim.now += seconds(number)

    @rule(number=st.integers(1, 6))
    def passes(self, number: int) -> None:
        for _ in range(number):
            self.sim.reconcile()

    @rule(writes=st.integers(0, 4))
    def crash(self, writes: int) -> None:
        self.sim.reconcile(crash_after=writes)

    @rule(revision=revisions)
    def route_deleted(self, revision: str) -> None:
        """Somebody deletes a route by hand."""
        if self.sim.cluster.canary and self.sim.cluster.canary[0] == revision:
            self.sim.cluster.canary = None

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
        assert not sim.reconcile(), "a fixed point is not one"
        if sim.ask.suspended:
            assert rollout.state is RolloutState.INITIALIZING
            assert (cluster.replicas, cluster.primary, cluster.canary) == ({}, None, None)
            return
        assert rollout.state in {RolloutState.IDLE, RolloutState.PAUSED}
        if rollout.state is RolloutState.PAUSED:
            assert rollout.candidate == sim.ask.target
            return
        assert rollout.stable == sim.ask.target
        assert cluster.world().weights == {sim.ask.target: 100}
        assert cluster.replicas.keys() == {sim.ask.target}
        if not cluster.autoscaled:
            assert cluster.replicas[sim.ask.target] == sim.ask.replicas


@pytest.mark.timeout(0 if CHAOS else 60)
def test_rollouts_survive_everything() -> None:
    run_state_machine_as_test(
        RolloutMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            derandomize=not CHAOS,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
