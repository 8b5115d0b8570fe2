"""What a person reads in ``kubectl describe``: transitions, as sentences."""

from typing import Any, get_args

import pytest

from modelyard_operator.events import PAUSES, build_events
from modelyard_operator.rollout.state import PauseReason

STABLE, CANDIDATE = {"revision": "fraud-old"}, {"revision": "fraud-new"}


def status(state: str, *conditions: dict[str, Any], **rollout: Any) -> dict[str, Any]:
    known = {one["type"] for one in conditions}
    others = [{"type": name, "status": "False", "reason": "x"} for name in ("Ready", "Stalled")]
    return {
        "stable": STABLE,
        "candidate": CANDIDATE,
        "rollout": {"state": state, **rollout},
        "conditions": [*conditions, *(one for one in others if one["type"] not in known)],
    }


NO_ROOM = {
    "type": "CapacityAvailable",
    "status": "False",
    "reason": "InsufficientAccelerator",
    "message": "fraud-new: needs 1 nvidia.com/gpu, 0 free of 2",
}
LAST = {"revision": "fraud-new", "reason": "ErrorsWorse", "message": "30 of 40 failed", "time": "t"}


@pytest.mark.parametrize(
    ("before", "after", "event"),
    [
        (
            status("Idle"),
            status("Preparing"),
            ("Normal", "RolloutStarted", "fraud-new is being prepared beside fraud-old"),
        ),
        (
            status("Preparing"),
            status("WaitingCapacity", NO_ROOM),
            ("Warning", "WaitingForCapacity", NO_ROOM["message"]),
        ),
        (
            status("Warming"),
            status("Shadowing"),
            (
                "Normal",
                "Shadowing",
                "fraud-new answers copies of live requests, which are compared with fraud-old's",
            ),
        ),
        (
            status("Warming"),
            status("Shifting", weight=25),
            ("Normal", "Shifting", "25 % of the requests move to fraud-new"),
        ),
        (
            status("Analyzing", weight=5),
            status("Paused", weight=5, pausedReason="Inconclusive"),
            (
                "Normal",
                "RolloutPaused",
                f"paused at 5 % (Inconclusive): {PAUSES['Inconclusive']}",
            ),
        ),
        (
            status("Analyzing"),
            status("Promoting"),
            ("Normal", "Promoted", "fraud-old is stable now"),
        ),
        (
            status("Analyzing"),
            status("RollingBack", lastRollback=LAST),
            ("Warning", "ErrorsWorse", "fraud-new: 30 of 40 failed; traffic returns to fraud-old"),
        ),
        (
            status("Analyzing", lastRollback=LAST),
            status("RollingBack", lastRollback=LAST),
            ("Normal", "RolloutDropped", "another edit: traffic returns to fraud-old"),
        ),
    ],
)
def test_a_transition_is_a_sentence(
    before: dict[str, Any], after: dict[str, Any], event: tuple[str, str, str]
) -> None:
    assert build_events(before, after) == [event]
    assert build_events(after, after) == []


def test_every_pause_says_why() -> None:
    assert set(PAUSES) == set(get_args(PauseReason))


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        ("Refused: expected one of promote, pause", ("Warning", "CommandRefused")),
        ("Accepted", ("Normal", "CommandSeen")),
    ],
)
def test_a_command_is_answered_once(result: str, kind: tuple[str, str]) -> None:
    command = {"id": "1", "verb": "promote", "revision": "fraud-new", "result": result}
    after = status("Analyzing", lastCommand=command)
    (event,) = build_events(status("Analyzing"), after)
    assert event == (*kind, f"promote@fraud-new: {result}")
    again = status("Analyzing", lastCommand=command | {"result": "Ignored"})
    assert build_events(after, again) == []


def test_a_command_that_does_not_parse_is_shown_as_it_was() -> None:
    command = {
        "id": "go!",
        "verb": "",
        "revision": "",
        "result": "Refused: expected verb@revision#id",
    }
    (event,) = build_events(status("Idle"), status("Idle", lastCommand=command))
    assert event[1:] == ("CommandRefused", "go!: Refused: expected verb@revision#id")


def test_a_step_says_what_it_was_passed_on() -> None:
    errors = {
        "metric": "errors",
        "stable": {"n": 900, "bad": 5},
        "candidate": {"n": 100, "bad": 0},
    }
    seen = {"revision": "fraud-new", "step": 1, "metrics": [errors]}
    before = status("Analyzing", step=1, weight=10, analysis=seen)
    after = status("Warming", step=2, weight=10, analysis=seen)
    told = ("Normal", "StepPassed", "10 %: errors: candidate 0 of 100, stable 5 of 900")
    assert told in build_events(before, after)
    assert told in build_events(before, status("Promoting", step=1, analysis=seen))
    assert told not in build_events(before, status("Paused", step=1, weight=10, analysis=seen))
    assert told not in build_events(before, status("RollingBack", step=1, analysis=seen))
    alone = status("Analyzing", step=1, weight=100, analysis=seen)
    told = ("Normal", "StepPassed", "100 %: errors: 0 of 100")
    assert told in build_events(alone, status("Promoting", step=1, analysis=seen))


def test_a_broken_limit_is_told_when_it_breaks() -> None:
    kept = {"type": "ObjectivesMet", "status": "True", "reason": "Kept", "message": "fine"}
    broken = {**kept, "status": "False", "reason": "ErrorsAboveMax", "message": "errors: 9 of 10"}
    told = ("Warning", "ErrorsAboveMax", "errors: 9 of 10")
    assert told in build_events(status("Idle", kept), status("Idle", broken))
    assert told not in build_events(status("Idle", broken), status("Idle", broken))
