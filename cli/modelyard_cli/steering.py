"""Commands for a rollout: the text of the annotation, and what became of it; pure.

The annotation is ``verb@revision#id``: the revision keeps a command from reaching a rollout that it
was not meant for, the id a repeated one from counting twice.
"""

import secrets
from typing import Final

from modelyard_cli.errors import NoRolloutError
from modelyard_cli.view import LastCommand, View

ANNOTATION: Final = "modelyard.dev/rollout"
ACCEPTED: Final = "Accepted"
RETURNABLE: Final = frozenset({"Promoting", "Probation"})
"""States in which a revision is stable already, and the previous one is still warm."""


def make_id() -> str:
    """Return an id that no other command has."""
    return secrets.token_hex(4)


def text(verb: str, revision: str, command_id: str) -> str:
    """Return the value of the annotation."""
    return f"{verb}@{revision}#{command_id}"


def candidate_of(view: View, verb: str) -> str:
    """Return the revision that a command about the running rollout names.

    Args:
        view: The ModelDeployment.
        verb: The command.

    Raises:
        NoRolloutError: There is no candidate.
    """
    if view.candidate:
        return view.candidate
    raise NoRolloutError(
        f"there is nothing to {verb}: no rollout of {view.name} is under way",
        hint="edit the spec: what changes the pods starts a rollout",
    )


def leaving_of(view: View) -> str:
    """Return the revision that ``abort`` takes back: the candidate, or what is on probation.

    Args:
        view: The ModelDeployment.

    Raises:
        NoRolloutError: There is neither.
    """
    returnable = view.rollout.state in RETURNABLE and view.rollout.previous
    return view.stable if returnable else candidate_of(view, "abort")


def rejected_of(view: View) -> str:
    """Return the revision that ``retry`` tries again: what was rejected last, or a first one late.

    Args:
        view: The ModelDeployment.

    Raises:
        NoRolloutError: None was rejected.
    """
    rollout = view.rollout
    if rollout.state == "Unavailable" and view.candidate:
        return view.candidate
    last = rollout.last_rollback.revision if rollout.last_rollback else ""
    found = last if last in rollout.rejected else next(reversed(rollout.rejected), "")
    if found:
        return found
    raise NoRolloutError(f"there is nothing to retry: no revision of {view.name} was rejected")


def earlier_of(view: View) -> str:
    """Return the revision that ``rollback`` goes back to when none is named.

    Args:
        view: The ModelDeployment.

    Raises:
        NoRolloutError: No revision was stable before.
    """
    rollout = view.rollout
    promoted = [name for name in rollout.promoted if name != view.stable]
    found = rollout.previous or rollout.fallback or next(reversed(promoted), "")
    if found:
        return found
    raise NoRolloutError(
        f"{view.name} knows of no revision that was stable before {view.stable or 'now'}",
        hint="name one: `history` lists them",
    )


def outcome(view: View, command_id: str) -> LastCommand | None:
    """Return what the operator made of a command; None while it has not seen it."""
    last = view.rollout.last_command
    return last if last and last.id == command_id else None
