"""What the machine reads off the cluster, and off its own state."""

import pytest

from modelyard_operator.rollout.state import Rollout, World

A, B = "fraud-a", "fraud-b"


@pytest.mark.parametrize(
    ("world", "pods"),
    [
        (World(placed={A: 1, B: 2}, ready={A: 1}), 2),
        (World(placed={B: 1}, ready={A: 1, B: 2}), 2),
        (World(placed={A: 1}, ready={A: 1}), 0),
    ],
)
def test_a_pod_has_found_its_place_when_it_has_a_node_or_is_ready(world: World, pods: int) -> None:
    assert world.settled(B) == pods
    assert world.settled(None) == 0


@pytest.mark.parametrize(
    ("world", "weights"),
    [
        (World(), {}),
        (World(canary=B, canary_weight=50), {}),
        (World(primary=A), {A: 100}),
        (World(primary=A, canary=A, canary_weight=50), {A: 100}),
        (World(primary=A, canary=B, canary_weight=30), {A: 70, B: 30}),
        (World(primary=A, canary=B, canary_weight=0), {A: 100}),
        (World(primary=A, canary=B, canary_weight=100), {B: 100}),
    ],
)
def test_the_routes_give_percents(world: World, weights: dict[str, int]) -> None:
    assert world.weights == weights


@pytest.mark.parametrize(
    ("rollout", "gave_all", "down"),
    [
        (Rollout(), False, False),
        (Rollout(given_up=1), True, True),
        (Rollout(given_up=1, initial_replicas=2), False, False),
        (Rollout(given_up=2, initial_replicas=2), True, True),
        (Rollout(remaining=0), False, True),
        (Rollout(remaining=1), False, False),
    ],
)
def test_a_downtime_is_seen(rollout: Rollout, gave_all: bool, down: bool) -> None:  # noqa: FBT001
    assert (rollout.gave_all, rollout.down) == (gave_all, down)
