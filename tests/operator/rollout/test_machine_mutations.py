"""The property test can fail: each known mistake, built into the machine, is found by it.

The mistakes are those that real rollout controllers have made: weight before pods are ready, pods
gone before their traffic, a promotion nobody has confirmed, a wait without an end, and devices that
a candidate keeps from the revision that has to come back.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import pytest

from modelyard_operator.rollout import finishing, machine, preparing, stepping
from modelyard_operator.rollout.routing import Backends, backends
from modelyard_operator.rollout.state import ACTIVE, Ask, Rollout, RolloutState, World
from testkit import operator_rollout
from testkit.operator_rollout_machine import explore

EXAMPLES: Final = 4000
"""Histories within which each mistake has to be found."""


def _weight_before_ready(rollout: Rollout, world: World, **_: Any) -> Backends:
    if rollout.state in ACTIVE and rollout.weight and world.splits:
        return Backends(rollout.stable, rollout.candidate, rollout.weight)
    return backends(rollout, world)


def _gone_before_traffic(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    return finishing._finished(ask, rollout, world, now)


def _never_late(rollout: Rollout, now: datetime) -> bool:
    del rollout, now
    return False


def _keeps_devices(ask: Ask, rollout: Rollout, world: World) -> Rollout:
    del ask, world
    return rollout


def _always(*_: Any, **__: Any) -> bool:
    return True


def _never(*_: Any, **__: Any) -> bool:
    return False


Mutation = Callable[[pytest.MonkeyPatch], None]


def weight_before_ready(patch: pytest.MonkeyPatch) -> None:
    """The routes give a candidate its share, ready or not."""
    patch.setattr(preparing, "_lacks_pods", _never)
    patch.setattr(operator_rollout, "backends", _weight_before_ready)


def candidate_dropped_before_traffic_is_back(patch: pytest.MonkeyPatch) -> None:
    """A rollback ends at once."""
    transitions = {**machine._TRANSITIONS, RolloutState.ROLLING_BACK: _gone_before_traffic}
    patch.setattr(machine, "_TRANSITIONS", transitions)


def stable_before_all_is_confirmed(patch: pytest.MonkeyPatch) -> None:
    """A weight that was written down counts as given."""
    patch.setattr(stepping, "confirmed", _always)


def no_deadline(patch: pytest.MonkeyPatch) -> None:
    """A rollout may wait for ever."""
    patch.setattr(machine, "overdue", _never_late)


def devices_not_freed(patch: pytest.MonkeyPatch) -> None:
    """A candidate keeps its pods while stable finds no room to come back."""
    patch.setattr(finishing, "_made_room", _keeps_devices)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mutation", "found"),
    [
        (weight_before_ready, "^(2|13):"),
        (candidate_dropped_before_traffic_is_back, "^3:"),
        (stable_before_all_is_confirmed, "^4:"),
        (no_deadline, "^8:"),
        (devices_not_freed, "^6:"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_is_found(
    monkeypatch: pytest.MonkeyPatch, mutation: Mutation, found: str
) -> None:
    mutation(monkeypatch)
    with pytest.raises(AssertionError, match=found):
        explore(EXAMPLES, shrink=False, drawn=False)
