"""Commands by annotation: ``modelyard.dev/rollout: promote@fraud-91ab44d0#1``.

The revision guards against a command that was meant for another rollout, the id against a replay:
annotations survive re-applies by GitOps tools.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from modelyard_operator.rollout.machine import advance, confirmed
from modelyard_operator.rollout.state import ACTIVE, LastCommand, Rollout, RolloutState, World

COMMAND: Final = re.compile(
    r"(?P<verb>[a-z-]{1,32})@(?P<revision>[a-z0-9-]{1,63})#(?P<id>\S{1,64})"
)
ACCEPTED: Final = "Accepted"


def apply_command(rollout: Rollout, annotation: str | None, world: World, now: datetime) -> Rollout:
    """Carry out a command, and record what became of it; an id already seen changes nothing.

    Args:
        rollout: The rollout as status has it.
        annotation: Value of the annotation; None without one.
        world: What the cluster shows.
        now: Current time, in UTC.
    """
    if not annotation:
        return rollout
    match = COMMAND.fullmatch(annotation.strip())
    if match is None:
        expected = "Refused: expected verb@revision#id"
        return _record(rollout, ("", "", annotation[:64]), expected, now)
    verb, revision, command_id = match["verb"], match["revision"], match["id"]
    if rollout.last_command and rollout.last_command.id == command_id:
        return rollout
    parts = (verb, revision, command_id)
    if verb not in _VERBS:
        return _record(rollout, parts, f"Refused: expected one of {', '.join(_VERBS)}", now)
    if revision != rollout.candidate or rollout.state not in ACTIVE:
        under_way = f"{rollout.candidate} is" if rollout.state in ACTIVE else "no rollout is"
        return _record(rollout, parts, f"Ignored: {under_way} under way", now)
    changed, result = _VERBS[verb](rollout, world, now)
    return _record(changed, parts, result, now)


def _promote(rollout: Rollout, world: World, now: datetime) -> tuple[Rollout, str]:
    """Leave the current step at once, its bake time and its pause included."""
    if rollout.paused_reason == "Spec":
        return rollout, "Refused: spec.rollout.paused is true"
    waiting = rollout.state in {RolloutState.ANALYZING, RolloutState.PAUSED}
    if not waiting or rollout.weight != rollout.current.weight:
        return rollout, f"Ignored: nothing to skip while {rollout.state}"
    return _go_on(rollout, world, now)


def _pause(rollout: Rollout, world: World, now: datetime) -> tuple[Rollout, str]:
    """Hold the rollout where it is; traffic stays as it is."""
    del world, now
    return rollout.model_copy(update={"held": True}), ACCEPTED


def _resume(rollout: Rollout, world: World, now: datetime) -> tuple[Rollout, str]:
    """Undo ``pause``, or go on after a step's manual pause."""
    if rollout.paused_reason == "Spec":
        return rollout, "Refused: spec.rollout.paused is true"
    if rollout.paused_reason == "Step":
        return _go_on(rollout, world, now)
    released = rollout.model_copy(update={"held": False})
    return released, ACCEPTED if rollout.held else "Ignored: the rollout is not paused"


def _go_on(rollout: Rollout, world: World, now: datetime) -> tuple[Rollout, str]:
    """Leave the step; out of the last one only while the candidate really has all the traffic."""
    last = rollout.step == len(rollout.plan)
    if last and not confirmed(rollout, world):
        return rollout, f"Ignored: the routes do not give {rollout.weight} % to the candidate now"
    return advance(rollout.model_copy(update={"held": False}), now), ACCEPTED


def _record(rollout: Rollout, parts: tuple[str, str, str], result: str, now: datetime) -> Rollout:
    verb, revision, command_id = parts
    last = rollout.last_command
    if last and last.id == command_id:
        return rollout
    command = LastCommand(
        id=command_id,
        verb=verb,
        revision=revision,
        result=result,
        time=now.replace(microsecond=0),
    )
    return rollout.model_copy(update={"last_command": command})


Verb = Callable[[Rollout, World, datetime], tuple[Rollout, str]]
_VERBS: Final[Mapping[str, Verb]] = MappingProxyType(
    {
        "promote": _promote,
        "pause": _pause,
        "resume": _resume,
    }
)
