"""Which revisions the routes name, and how much each of them gets."""

from dataclasses import replace
from typing import Any

import pytest

from modelyard_operator.rollout.routing import (
    Backends,
    backends,
    confirmed,
    returns_to,
    stable_down,
)
from modelyard_operator.rollout.state import Rollout, RolloutState, World

A, B = "fraud-a", "fraud-b"
S = RolloutState
HALF = Rollout(state=S.ANALYZING, stable=A, candidate=B, weight=50, initial_replicas=2)
UP = World(primary=A, replicas={A: 2, B: 2}, ready={A: 2, B: 1})
DOWN = replace(UP, ready={B: 1})


def having(**changes: Any) -> Rollout:
    return HALF.model_copy(update=changes)


@pytest.mark.parametrize(
    ("rollout", "world", "expected"),
    [
        (having(stable=None), UP, Backends()),
        (HALF, UP, Backends(A, B, 50)),
        (HALF, replace(UP, ready={A: 2}), Backends(A)),
        (HALF, replace(UP, splits=False), Backends(A)),
        (having(weight=100), replace(UP, splits=False), Backends(B)),
        (having(weight=0), UP, Backends(A)),
        (having(weight=0), DOWN, Backends(A, B, 100)),
        (having(weight=0), replace(DOWN, splits=False), Backends(B)),
        (having(weight=0), replace(DOWN, ready={}), Backends(A)),
        (having(state=S.IDLE), UP, Backends(A)),
    ],
    ids=[
        *("nothing serves yet", "a step", "no ready pod", "no proxy divides", "all of it"),
        *("before the first step", "stable is down", "and no proxy divides", "and so is B"),
        "no rollout",
    ],
)
def test_the_routes_follow_the_weight(rollout: Rollout, world: World, expected: Backends) -> None:
    assert backends(rollout, world) == expected


def test_testers_have_a_route_as_soon_as_somebody_answers() -> None:
    waiting = having(weight=0)
    assert backends(waiting, UP, testers=True) == Backends(A, B, 0)
    assert backends(waiting, replace(UP, ready={A: 2}), testers=True) == Backends(A)
    assert backends(waiting, replace(UP, splits=False), testers=True) == Backends(A)


def test_the_canary_route_stays_until_the_primary_has_moved() -> None:
    promoting = Rollout(state=S.PROMOTING, stable=B, previous=A, weight=100)
    both = World(primary=A, canary=B, canary_weight=100)
    assert backends(promoting, both) == Backends(B, B, 100)
    assert backends(promoting, World(primary=A)) == Backends(B)
    assert backends(promoting.model_copy(update={"weight": 0}), both) == Backends(B)


@pytest.mark.parametrize(
    ("wanted", "whole"),
    [
        (Backends(A), A),
        (Backends(A, A, 50), A),
        (Backends(A, B, 50), None),
        (Backends(A, B, 100), B),
    ],
)
def test_what_gets_everything(wanted: Backends, whole: str | None) -> None:
    assert wanted.whole == whole


@pytest.mark.parametrize(
    ("weight", "world", "expected"),
    [
        (50, World(primary=A, canary=B, canary_weight=50), True),
        (50, World(primary=A, canary=B, canary_weight=40), False),
        (50, World(primary=A), False),
        (0, World(primary=A), True),
        (100, World(primary=B), True),
        (100, World(primary=A, canary=B, canary_weight=100), True),
        (100, World(primary=A, canary=B, canary_weight=100, followed=False), False),
    ],
)
def test_a_weight_counts_once_the_routes_show_it(weight: int, world: World, expected: bool) -> None:  # noqa: FBT001
    assert confirmed(having(weight=weight), world) is expected


def test_stable_is_down_when_it_has_pods_and_none_is_ready() -> None:
    assert stable_down(HALF, DOWN)
    assert not stable_down(HALF, UP)
    assert not stable_down(HALF, replace(DOWN, replicas={A: 0}))
    assert not stable_down(HALF, replace(DOWN, replicas={}))
    assert not stable_down(having(given_up=2), DOWN), "its pods were asked to go"
    assert stable_down(HALF, replace(DOWN, replicas={A: 1}))


def test_a_rollback_leads_to_what_was_stable_before() -> None:
    assert returns_to(HALF) == (A, B)
    assert returns_to(Rollout(stable=B, previous=A)) == (A, B)
    assert returns_to(Rollout()) == ("", "")
    assert returns_to(Rollout(previous=A)) == (A, "")


RETURNING = having(state=S.ROLLING_BACK, weight=0)
SERVING = replace(DOWN, canary=B, canary_weight=50)


@pytest.mark.parametrize(
    ("rollout", "world", "expected"),
    [
        (RETURNING, replace(SERVING, ready={A: 1, B: 1}), Backends(A)),
        (RETURNING, SERVING, Backends(A, B, 50)),
        (RETURNING, replace(SERVING, primary=B, canary=None, canary_weight=0), Backends(B)),
        (RETURNING, replace(SERVING, ready={}), Backends(A)),
        (RETURNING, replace(SERVING, canary=None), Backends(A)),
        (RETURNING, replace(SERVING, replicas={A: 0, B: 2}), Backends(A)),
        (RETURNING, replace(SERVING, replicas={B: 2}), Backends(A, B, 50)),
        (having(state=S.ROLLING_BACK, given_up=2), SERVING, Backends(A)),
    ],
    ids=[
        *("home answers", "only the other one does", "and has everything", "nobody does"),
        *("it has no traffic", "home is to have no pods", "home is yet to be made"),
        "a downtime was asked for",
    ],
)
def test_traffic_comes_home_when_somebody_is_there(
    rollout: Rollout, world: World, expected: Backends
) -> None:
    assert backends(rollout, world) == expected
