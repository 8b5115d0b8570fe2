"""Whole rollouts, as a user would tell them: strategies, room, time, commands and the way back."""

from dataclasses import replace

import pytest

from modelyard_operator.rollout.state import RolloutState
from testkit.operator_rollout import Cluster, Simulation, ask_for, seconds
from testkit.operator_rollout_story import A, B, C, edited, end, in_state, served, told, until

S = RolloutState


def test_blue_green_moves_everything_at_once_when_all_pods_are_ready() -> None:
    sim = edited(served(replicas=3, strategy="BlueGreen"))
    until(sim, in_state(S.SHIFTING))
    assert sim.cluster.ready == {A: 3, B: 3}
    assert sim.cluster.world().weights == {B: 100}
    assert end(sim).stable == B


def test_recreate_stops_the_old_pods_first() -> None:
    sim = edited(served(replicas=1, devices=1, strategy="Recreate"))
    sim.reconcile()
    assert sim.cluster.replicas == {A: 0, B: 1}
    rollout = end(sim)
    assert (rollout.state, rollout.stable) == (S.IDLE, B)
    assert sim.cluster.world().weights == {B: 100}


def test_recreate_survives_a_crash_before_the_old_pods_are_stopped() -> None:
    """Behind an autoscaler they go one pass later, and the new ones may be ready by then."""
    sim = edited(served(replicas=1, autoscaled=True, strategy="Recreate"))
    sim.reconcile()
    sim.cluster.run_pods()
    sim.reconcile(crash_after=0)
    sim.reconcile()
    assert sim.cluster.world().weights == {B: 100}
    assert end(sim).stable == B


def test_without_room_one_pod_at_a_time_makes_way_and_traffic_follows() -> None:
    sim = edited(served(replicas=3, devices=3, strategy="BlueGreen"))
    fewest = 3
    for _ in range(60):
        sim.reconcile()
        fewest = min(fewest, sum(sim.cluster.ready.values()))
        sim.cluster.run_pods()
        sim.now += seconds(2)
    assert fewest == 2
    assert end(sim).stable == B
    assert [line for line in sim.log if line.startswith("route")][:2] == [
        f"route {{'{A}': 67, '{B}': 33}} in Shifting",
        f"route {{'{B}': 100}} in Shifting",
    ]
    assert sim.cluster.ready == {B: 3}


@pytest.mark.parametrize("mode", ["Exchange", "Recreate"])
def test_on_one_device_an_edit_finishes_where_a_downtime_is_asked_for(mode: str) -> None:
    sim = edited(served(replicas=1, devices=1, capacity={"mode": mode}))
    rollout = end(sim)
    assert (rollout.state, rollout.stable) == (S.IDLE, B)
    assert sim.cluster.ready == {B: 1}


@pytest.mark.parametrize("mode", ["Auto", "Surge"])
def test_on_one_device_nobody_is_down_unasked(mode: str) -> None:
    sim = edited(served(replicas=1, devices=1, capacity={"mode": mode, "waitSeconds": 60}))
    until(sim, in_state(S.WAITING_CAPACITY))
    assert sim.cluster.ready[A] == 1
    rollout = end(sim)
    assert (rollout.state, rollout.rejected) == (S.ROLLED_BACK, (B,))
    assert rollout.last_rollback is not None
    assert rollout.last_rollback.reason == "InsufficientCapacity"
    assert rollout.last_rollback.message == f"no room for a pod of {B}: 0 of 1 nodes"
    assert sim.cluster.ready == {A: 1}


def test_a_wait_for_room_may_be_paused_and_goes_on_when_there_is_some() -> None:
    patient = {"mode": "Surge", "waitSeconds": 60, "onTimeout": "Pause"}
    sim = edited(served(replicas=1, devices=1, capacity=patient))
    assert end(sim).paused_reason == "Capacity"
    sim.cluster.devices = 2
    assert end(sim).stable == B


def test_after_probation_the_previous_pods_go() -> None:
    sim = edited(served(probationSeconds=600))
    until(sim, in_state(S.PROBATION))
    assert sim.cluster.replicas == {A: 2, B: 2}
    started = sim.now
    assert end(sim).previous is None
    assert sim.cluster.replicas == {B: 2}
    assert sim.now - started >= seconds(590)


def test_an_edit_that_is_taken_back_in_probation_returns_at_once() -> None:
    sim = edited(served(probationSeconds=600))
    until(sim, in_state(S.PROBATION))
    started = sim.now
    rollout = end(edited(sim, A))
    assert (rollout.state, rollout.stable, rollout.rejected) == (S.IDLE, A, ())
    assert sim.now - started < seconds(30)


def test_another_edit_does_not_wait_for_the_probation() -> None:
    sim = edited(served(probationSeconds=600))
    until(sim, in_state(S.PROBATION))
    edited(sim, C)
    rollout = until(sim, in_state(S.PREPARING))
    assert (rollout.stable, rollout.candidate) == (B, C)


def test_a_revision_that_was_stable_before_skips_the_steps() -> None:
    sim = edited(served())
    end(sim)
    edited(sim, A)
    assert [step.weight for step in until(sim, in_state(S.WARMING)).plan] == [100]


def test_while_stable_is_down_a_fix_takes_over_at_once() -> None:
    sim = served()
    sim.quality[A] = "sleeps"
    sim.cluster.ready[A] = 0
    edited(sim)
    assert [step.weight for step in until(sim, in_state(S.WARMING)).plan] == [100]
    assert end(sim).stable == B


def test_a_candidate_stands_in_for_a_stable_revision_that_goes_down() -> None:
    sim = edited(served())
    until(sim, in_state(S.ANALYZING, 10))
    sim.quality[A] = "sleeps"
    sim.cluster.ready[A] = 0
    rollout = until(sim, in_state(S.PAUSED))
    assert (rollout.paused_reason, rollout.stable) == ("Failover", A)
    assert sim.cluster.world().weights == {B: 100}
    sim.reconcile()
    assert not sim.reconcile(), "it stands in until stable is back"
    sim.quality[A] = "good"
    assert end(sim).stable == B


def test_a_freeze_holds_starting_and_advancing_and_no_rollback() -> None:
    window = {"cron": "0 0 1 1 *", "durationMinutes": 60}
    sim = edited(served(freeze=[window]))  # the clock of the tests begins on that day
    sim.reconcile()
    assert sim.rollout is not None
    assert (sim.rollout.state, sim.rollout.paused_reason) == (S.IDLE, "Freeze")
    sim.now += seconds(3600)
    until(sim, in_state(S.ANALYZING, 10))
    again = {"cron": "0 1 1 1 *", "durationMinutes": 60}
    frozen = ask_for(B, freeze=[again]).spec
    sim.ask = replace(sim.ask, spec=frozen)
    rollout = until(sim, in_state(S.PAUSED))
    assert (rollout.paused_reason, rollout.weight) == ("Freeze", 10)
    assert not sim.reconcile()
    assert told(sim, "abort", B) == "Accepted"
    assert end(sim).state is S.ROLLED_BACK


def test_a_rollout_goes_on_after_a_freeze() -> None:
    sim = edited(served(freeze=[{"cron": "1 0 1 1 *", "durationMinutes": 60}]))
    rollout = until(sim, lambda seen: seen.paused_reason == "Freeze")
    assert rollout.state is S.PAUSED
    assert end(sim).stable == B
    assert (sim.now.hour, sim.now.minute > 0) == (1, True)


def test_every_step_has_a_deadline_of_its_own() -> None:
    sim = edited(served(replicas=4, progressDeadlineSeconds=600))
    until(sim, in_state(S.ANALYZING, 10))
    sim.quality[B] = "sleeps"  # its first pod lives on, and no other comes up
    sim.now += seconds(599)
    until(sim, in_state(S.WARMING))
    started = sim.now
    rollout = end(sim)
    assert rollout.last_rollback is not None
    assert rollout.last_rollback.reason == "ProgressDeadlineExceeded"
    assert sim.now - started > seconds(590)


def test_a_route_for_testers_goes_before_the_pods_it_names() -> None:
    match = [{"header": {"name": "X-Canary", "value": "always"}}]
    sim = edited(served(match=match, paused=True))
    until(sim, in_state(S.PAUSED))
    sim.reconcile()
    assert sim.cluster.canary == (B, 0)
    edited(sim, C)
    sim.reconcile()
    assert sim.rollout is not None
    assert sim.rollout.state is S.ROLLING_BACK
    assert B in sim.cluster.replicas


def test_an_edit_in_a_freeze_window_is_no_rejected_one() -> None:
    sim = edited(served(probationSeconds=600))
    until(sim, in_state(S.PROBATION))
    window = {"cron": "0 0 1 1 *", "durationMinutes": 60}
    sim.ask = replace(sim.ask, spec=ask_for(B, freeze=[window]).spec)
    edited(sim, C)
    rollout = until(sim, lambda seen: seen.state is not S.PROBATION)
    assert (rollout.state, rollout.stable) == (S.IDLE, B)
    assert until(sim, lambda _: True).paused_reason == "Freeze"
    assert end(sim).stable == C


def test_a_freeze_that_ends_lets_the_rollout_go_on() -> None:
    sim = edited(served(freeze=[{"cron": "0 0 1 1 *", "durationMinutes": 60}]))
    assert end(sim).stable == B
    assert sim.now.hour >= 1


def test_testers_reach_a_candidate_before_its_first_step() -> None:
    match = [{"header": {"name": "X-Canary", "value": "always"}}]
    sim = edited(served(match=match, paused=True))
    until(sim, in_state(S.PAUSED))
    sim.reconcile()
    assert sim.cluster.canary == (B, 0)
    assert sim.cluster.world().weights == {A: 100}
    sim.cluster.ready[B] = 0
    sim.reconcile()
    assert sim.cluster.canary is None


def test_promote_full_skips_the_steps_and_nothing_of_readiness() -> None:
    sim = edited(served(replicas=4))
    until(sim, in_state(S.ANALYZING, 10))
    assert told(sim, "promote-full", B) == "Accepted"
    rollout = until(sim, in_state(S.SHIFTING))
    assert rollout.weight == 100
    assert sim.cluster.ready[B] == 4
    started = sim.now
    assert end(sim).stable == B
    assert sim.now - started < seconds(30)


def test_abort_beats_a_promotion_that_has_begun() -> None:
    sim = edited(served(probationSeconds=60))
    until(sim, in_state(S.ANALYZING, 10))
    told(sim, "promote-full", B)
    assert until(sim, in_state(S.PROMOTING)).weight == 100
    assert told(sim, "abort", B, 2) == "Accepted"
    assert sim.rollout is not None
    assert (sim.rollout.state, sim.rollout.weight) == (S.ROLLING_BACK, 0)
    rollout = end(sim)
    assert (rollout.state, rollout.stable, rollout.rejected) == (S.ROLLED_BACK, A, (B,))


def test_rollback_to_serves_an_older_revision_until_the_next_edit() -> None:
    sim = edited(served())
    end(sim)
    assert told(sim, "rollback-to", "fraud-x") == "Refused: there is no record of fraud-x"
    assert told(sim, "rollback-to", A, 2) == "Accepted"
    rollout = end(sim)
    assert (rollout.state, rollout.stable, rollout.rejected) == (S.ROLLED_BACK, A, (B,))
    assert end(edited(sim, C)).stable == C


def test_a_first_revision_that_is_late_is_unavailable_and_serves_when_it_comes() -> None:
    sim = Simulation(ask_for(A), Cluster())
    sim.quality[A] = "sleeps"
    assert end(sim).state is S.UNAVAILABLE
    sim.quality[A] = "good"
    assert end(sim).stable == A


def test_what_was_rejected_is_remembered_through_a_suspension() -> None:
    sim = served()
    sim.source = "fine"
    end(edited(sim, quality="bad"))
    sim.ask = replace(sim.ask, suspended=True)
    assert end(sim).pinned == A
    assert not sim.reconcile()
    sim.ask = replace(sim.ask, suspended=False)
    rollout = end(sim)
    assert (rollout.state, rollout.stable) == (S.ROLLED_BACK, A)


def test_without_a_rejection_a_suspension_pins_nothing() -> None:
    sim = served()
    sim.ask = replace(sim.ask, suspended=True)
    assert end(sim).pinned is None
