"""Cases of the machine that a reader looks for; the properties are in test_machine_properties."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelyard_operator.rollout.machine import decide, overdue, wake_time
from modelyard_operator.rollout.routing import Backends, backends
from modelyard_operator.rollout.sizing import needed, size
from modelyard_operator.rollout.starting import plan_steps, recover
from modelyard_operator.rollout.state import Rollout, RolloutState, World
from modelyard_operator.spec import RolloutSpec
from testkit.operator_objects import NOW
from testkit.operator_rollout import Cluster, Simulation, ask_for, seconds

A, B, C = "fraud-a", "fraud-b", "fraud-c"
S = RolloutState


def served(*, replicas: int = 2, cluster: Cluster | None = None) -> Simulation:
    sim = Simulation(ask_for(A, replicas=replicas), cluster or Cluster())
    sim.settle()
    return sim


def until(sim: Simulation, state: RolloutState, weight: int = 0) -> Rollout:
    for _ in range(60):
        sim.reconcile()
        sim.cluster.ready = dict(sim.cluster.replicas)
        rollout = sim.rollout
        assert rollout is not None
        if (rollout.state, rollout.weight) == (state, weight):
            return rollout
        sim.now += seconds(5)
    raise AssertionError(f"never {state} at {weight}: {sim.status}")


@pytest.mark.parametrize(
    ("weight", "replicas", "pods"),
    [(5, 1, 1), (5, 20, 1), (5, 21, 2), (50, 3, 2), (100, 3, 3), (0, 3, 1), (50, 0, 0)],
)
def test_pods_follow_the_weight(weight: int, replicas: int, pods: int) -> None:
    assert needed(weight, replicas) == pods


def test_only_steps_before_the_last_bake_unless_they_say_so() -> None:
    asked = {"steps": [{"weight": 5}, {"weight": 50, "bakeSeconds": 7}, {"weight": 100}]}
    spec = RolloutSpec.model_validate(asked)
    assert [step.bake_seconds for step in plan_steps(spec, splits=True)] == [120, 7, 0]
    assert [step.weight for step in plan_steps(spec, splits=False)] == [100]


def test_a_rollout_takes_its_steps_and_sizes_the_candidate_first() -> None:
    sim = served(replicas=4)
    sim.log.clear()
    sim.ask = replace(sim.ask, target=B)
    sim.settle()
    assert sim.log == [
        f"route {{'{A}': 90, '{B}': 10}} in Shifting",
        f"scale {B} 1 -> 2 in Warming",
        f"route {{'{A}': 50, '{B}': 50}} in Shifting",
        f"scale {B} 2 -> 4 in Warming",
        f"route {{'{B}': 100}} in Shifting",
    ]


def test_a_candidate_whose_pods_die_gets_nothing_and_its_weight_back_later() -> None:
    sim = served()
    sim.ask = replace(sim.ask, target=B)
    until(sim, S.ANALYZING, 50)
    sim.cluster.ready[B] = 0
    sim.reconcile()
    assert sim.cluster.world().weights == {A: 100}
    assert sim.rollout is not None
    assert (sim.rollout.stable, sim.rollout.weight) == (A, 50)
    until(sim, S.SHIFTING, 50)
    sim.cluster.ready[B] = 1
    sim.reconcile()
    assert sim.cluster.world().weights == {A: 50, B: 50}


def test_a_weight_waits_for_all_the_pods_it_needs() -> None:
    sim = served(replicas=4)
    sim.ask = replace(sim.ask, target=B)
    until(sim, S.ANALYZING, 10)
    sim.now += seconds(20)
    for _ in range(3):
        sim.reconcile()
        assert sim.rollout is not None
        assert (sim.rollout.state, sim.rollout.weight) == (S.WARMING, 10)
    assert (sim.cluster.replicas[B], sim.cluster.ready[B]) == (2, 1)
    sim.cluster.ready[B] = 2
    sim.reconcile()
    assert sim.cluster.world().weights == {A: 50, B: 50}


def test_an_edit_brings_traffic_home_before_the_next_candidate() -> None:
    sim = served()
    sim.ask = replace(sim.ask, target=B)
    until(sim, S.ANALYZING, 50)
    sim.ask = replace(sim.ask, target=C)
    rollout = until(sim, S.ROLLING_BACK)
    assert (rollout.stable, rollout.candidate) == (A, B)
    assert sim.cluster.world().weights == {A: 100}
    assert B in sim.cluster.replicas, "proxies may still send requests to it"
    until(sim, S.WARMING)
    assert B not in sim.cluster.replicas
    sim.settle()
    assert sim.cluster.world().weights == {C: 100}


@pytest.mark.parametrize("splits", [True, False])
def test_traffic_stays_with_the_dropped_candidate_while_stable_is_down(splits: bool) -> None:  # noqa: FBT001
    sim = served(cluster=Cluster(splits=splits))
    sim.ask = replace(sim.ask, target=B)
    weight = 50 if splits else 100
    until(sim, S.ANALYZING, weight)
    before = sim.cluster.world().weights
    sim.ask = replace(sim.ask, target=A)
    sim.cluster.ready[A] = 0
    for _ in range(3):
        sim.reconcile()
        assert sim.cluster.world().weights == before
    sim.cluster.ready[A] = 1
    sim.reconcile()
    assert sim.cluster.world().weights == {A: 100}


def test_at_zero_replicas_there_is_nothing_to_guard() -> None:
    sim = served(replicas=0)
    sim.ask = replace(sim.ask, target=B)
    sim.reconcile()
    assert sim.rollout is not None
    assert (sim.rollout.state, sim.rollout.stable) == (S.IDLE, B)


def test_a_pause_in_the_spec_keeps_the_bake_time() -> None:
    sim = served()
    sim.ask = replace(sim.ask, target=B)
    baking = until(sim, S.ANALYZING, 10)
    paused = sim.ask.spec.model_copy(update={"paused": True})
    sim.ask = replace(sim.ask, spec=paused)
    held = until(sim, S.PAUSED, 10)
    assert (held.paused_reason, held.next_step_time) == ("Spec", baking.next_step_time)
    sim.ask = replace(sim.ask, spec=paused.model_copy(update={"paused": False}))
    assert until(sim, S.ANALYZING, 10).next_step_time == baking.next_step_time


def test_a_proxy_that_can_no_longer_split_gets_the_last_step() -> None:
    sim = served()
    sim.ask = replace(sim.ask, target=B)
    until(sim, S.ANALYZING, 10)
    sim.cluster.splits = False
    until(sim, S.SHIFTING, 10)
    sim.settle()
    assert sim.cluster.world().weights == {B: 100}


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        (World(), {"state": S.INITIALIZING, "stable": None}),
        (World(selected=A), {"state": S.IDLE, "stable": A}),
        (World(primary=A, selected=B), {"state": S.IDLE, "stable": A}),
        (
            World(primary=A, canary=B, canary_weight=50),
            {"state": S.SHIFTING, "stable": A, "candidate": B, "step": 2, "weight": 50},
        ),
        (
            World(primary=A, canary=B, canary_weight=60),
            {"state": S.WARMING, "stable": A, "candidate": B, "step": 3, "weight": 60},
        ),
        (
            World(primary=A, canary=B, canary_weight=3),
            {"state": S.WARMING, "stable": A, "candidate": B, "step": 1, "weight": 3},
        ),
        (
            World(primary=A, canary=B, canary_weight=50, splits=False),
            {"state": S.WARMING, "candidate": B, "step": 1, "weight": 0},
        ),
        (
            World(primary=B, canary=B, canary_weight=100, replicas={A: 2, B: 2}),
            {"state": S.PROMOTING, "stable": B, "previous": A},
        ),
        (
            World(primary=B, canary=B, canary_weight=100, replicas={B: 2}),
            {"state": S.PROMOTING, "stable": B, "previous": None},
        ),
    ],
)
def test_a_lost_status_is_rebuilt_from_the_routes(
    world: World, expected: dict[str, object]
) -> None:
    found = recover(ask_for(B), world, NOW)
    assert {name: getattr(found, name) for name in expected} == expected
    assert decide(ask_for(B), None, world, NOW) == found


def test_a_suspended_object_recovers_to_nothing() -> None:
    suspended = replace(ask_for(A), suspended=True)
    assert recover(suspended, World(primary=A), NOW).stable is None


def test_promoting_names_the_new_revision_twice_until_the_primary_is_confirmed() -> None:
    promoting = Rollout(state=S.PROMOTING, stable=B, previous=A, weight=100)
    world = World(primary=A, canary=B, canary_weight=100, ready={B: 1})
    assert backends(promoting, world) == Backends(B, B, 100)
    assert backends(promoting, World(primary=B)) == Backends(B)
    assert size(ask_for(B), promoting, World(replicas={A: 3}), A) == 3
    assert size(ask_for(B), promoting, World(replicas={A: 0}), A) == 1


def test_a_primary_that_names_the_candidate_already_is_not_taken_back() -> None:
    baking = Rollout(state=S.ANALYZING, stable=A, candidate=B, weight=100)
    world = World(primary=B, ready={B: 1}, replicas={A: 1, B: 1})
    assert backends(baking, world) == backends(baking, replace(world, splits=False)) == Backends(B)
    assert backends(baking, replace(world, primary=A)) == Backends(A, B, 100)


def test_time_wakes_only_what_waits_for_it() -> None:
    later, deadline = NOW + timedelta(seconds=10), NOW + timedelta(seconds=99)
    waiting = Rollout(state=S.ANALYZING, next_step_time=later, deadline_time=deadline)
    assert wake_time(waiting, NOW) == later
    assert wake_time(waiting, later) == deadline
    assert wake_time(waiting, deadline) is None
    warming = waiting.model_copy(update={"state": S.WARMING})
    assert not overdue(warming, later)
    assert overdue(warming, deadline)
    assert not overdue(waiting, deadline)


def test_a_wiped_status_is_told_from_an_empty_one() -> None:
    assert Rollout.from_status({}) is None
    assert Rollout.from_status({"rollout": {"state": "Idle"}, "stable": None}) is not None
    assert Rollout.from_status({"rollout": {"id": "1"}}) == Rollout(id="1")


def test_a_state_of_another_version_is_rebuilt_from_the_routes() -> None:
    assert Rollout.from_status({"rollout": {"state": "Baking"}, "stable": {"revision": A}}) is None


@pytest.mark.parametrize("state", [S.SHIFTING, S.ANALYZING, S.PAUSED])
def test_another_edit_drops_the_candidate_in_any_state(state: RolloutState) -> None:
    step = {"steps": [{"weight": 10, "pause": "Manual"}, {"weight": 100}], "bakeSeconds": 20}
    sim = served()
    sim.ask = replace(sim.ask, target=B, spec=RolloutSpec.model_validate(step))
    until(sim, state, 10)
    sim.ask = replace(sim.ask, target=C)
    sim.reconcile()
    assert sim.rollout is not None
    assert (sim.rollout.state, sim.rollout.stable) == (S.ROLLING_BACK, A)


def test_an_edit_while_a_candidate_gets_ready_goes_to_the_newest() -> None:
    sim = served()
    sim.ask = replace(sim.ask, target=B)
    until(sim, S.WARMING)
    sim.ask = replace(sim.ask, target=C)
    sim.reconcile()
    assert B in sim.cluster.replicas, "it may have stood in for stable a moment ago"
    assert until(sim, S.PREPARING).candidate == C
    assert B not in sim.cluster.replicas


def test_a_pause_before_the_next_step_goes_on_with_getting_ready() -> None:
    sim = served()
    sim.ask = replace(sim.ask, target=B)
    until(sim, S.WARMING)
    paused = sim.ask.spec.model_copy(update={"paused": True})
    sim.ask = replace(sim.ask, spec=paused)
    until(sim, S.PAUSED)
    sim.ask = replace(sim.ask, spec=paused.model_copy(update={"paused": False}))
    until(sim, S.WARMING)


def test_a_first_revision_may_change_before_it_serves() -> None:
    sim = Simulation(ask_for(A))
    sim.reconcile()
    sim.reconcile()
    sim.ask = replace(sim.ask, target=B)
    sim.settle()
    assert sim.cluster.replicas == {B: 2}


def test_a_suspended_object_forgets_its_rollout_and_keeps_its_last_command() -> None:
    sim = served()
    sim.annotation = "promote@fraud-x#1"
    sim.reconcile()
    sim.ask = replace(sim.ask, suspended=True)
    sim.settle()
    assert sim.cluster.replicas == {}
    assert sim.rollout is not None
    assert sim.rollout.last_command is not None
    sim.ask = replace(sim.ask, suspended=False)
    sim.settle()
    assert sim.cluster.world().weights == {A: 100}


def test_promotion_waits_for_the_primary_then_for_the_canary_route_to_go() -> None:
    ask = ask_for(B)
    promoting = Rollout(state=S.PROMOTING, stable=B, previous=A, weight=100)
    assert decide(ask, promoting, World(primary=A), NOW) == promoting
    both = World(primary=B, canary=B, canary_weight=100)
    settling = decide(ask, promoting, both, NOW)
    assert settling.next_step_time == NOW + seconds(5)
    alone = decide(ask, settling, both, NOW + seconds(5))
    assert (alone.state, alone.weight) == (S.PROMOTING, 0)
    assert backends(alone, both) == Backends(B)
    assert decide(ask, alone, both, NOW) == alone
    settling = decide(ask, alone, World(primary=B), NOW)
    assert decide(ask, settling, World(primary=B), NOW) == settling
    done = decide(ask, settling, World(primary=B), NOW + seconds(5))
    assert (done.state, done.previous) == (S.PROBATION, A)


def test_a_rollback_waits_for_the_routes() -> None:
    returning = Rollout(state=S.ROLLING_BACK, stable=A, candidate=B)
    still = World(primary=A, canary=B, canary_weight=5)
    assert decide(ask_for(C), returning, still, NOW) == returning
    assert decide(ask_for(C), returning, World(primary=B), NOW) == returning
    assert decide(ask_for(C), returning, World(primary=A), NOW).next_step_time is not None
