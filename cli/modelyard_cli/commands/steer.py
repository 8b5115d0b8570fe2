"""``promote``, ``pause``, ``resume``, ``abort``, ``retry``, ``rollback``: a person decides.

Each writes one annotation and waits until the operator has recorded what it made of it.
"""

import time
from typing import Annotated, Final

import typer

from modelyard_cli import steering
from modelyard_cli.errors import NotAnsweredError, RefusedError
from modelyard_cli.history import find_record, parse_records
from modelyard_cli.output import NameArgument
from modelyard_cli.session import Session, command
from modelyard_cli.view import LastCommand, View

WAIT_S: Final = 30.0
POLL_S: Final = 0.5

TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for the operator.")
]
GuardOption = Annotated[
    str | None,
    typer.Option(
        "--revision",
        metavar="REVISION",
        help="Only if this is the candidate (its full name); otherwise the operator ignores the command.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for function in (promote, pause, resume, abort, retry, rollback):
        command(app)(function)


def promote(
    session: Session,
    name: NameArgument,
    *,
    full: Annotated[
        bool, typer.Option("--full", help="Skip all the steps that are left, not only this one.")
    ] = False,
    revision: GuardOption = None,
    timeout: TimeoutOption = WAIT_S,
) -> None:
    """Leave the current step now.

    Its time, its pause and its verdict are not waited for.

    Examples:
      modelyard promote fraud
      # Straight to 100 %
      modelyard promote fraud --full
      # In a pipeline: never another revision than the one that was tested
      modelyard promote fraud --revision fraud-91ab44d0
    """
    _steer(session, name, "promote-full" if full else "promote", revision, timeout)


def pause(
    session: Session,
    name: NameArgument,
    *,
    revision: GuardOption = None,
    timeout: TimeoutOption = WAIT_S,
) -> None:
    """Hold the rollout where it is.

    The traffic stays split as it is, until `resume`.

    Examples:
      modelyard pause fraud
    """
    _steer(session, name, "pause", revision, timeout)


def resume(
    session: Session,
    name: NameArgument,
    *,
    revision: GuardOption = None,
    timeout: TimeoutOption = WAIT_S,
) -> None:
    """Let a paused rollout go on.

    Examples:
      modelyard resume fraud
    """
    _steer(session, name, "resume", revision, timeout)


def abort(
    session: Session,
    name: NameArgument,
    *,
    revision: GuardOption = None,
    timeout: TimeoutOption = WAIT_S,
) -> None:
    """Take the candidate back.

    All traffic returns to stable, and the revision counts as rejected. On probation, the promoted
    revision is taken back, and the previous one is stable again.

    Examples:
      modelyard abort fraud
    """
    view = View.of(session.cluster.get(name))
    _give(session, name, "abort", revision or steering.leaving_of(view), timeout)


def retry(
    session: Session,
    name: NameArgument,
    revision: Annotated[
        str | None,
        typer.Argument(metavar="REVISION", help="Default: the one that was rejected last."),
    ] = None,
    *,
    timeout: TimeoutOption = WAIT_S,
) -> None:
    """Try a rejected revision again, from the first step.

    Examples:
      modelyard retry fraud
    """
    view = View.of(session.cluster.get(name))
    chosen = _named(session, name, revision) if revision else steering.rejected_of(view)
    _give(session, name, "retry", chosen, timeout)


def rollback(
    session: Session,
    name: NameArgument,
    revision: Annotated[
        str | None,
        typer.Argument(
            metavar="REVISION",
            help="By name, the start of its hash, or number; default: the one that was stable before.",
        ),
    ] = None,
    *,
    timeout: TimeoutOption = WAIT_S,
) -> None:
    """Return to an earlier revision; the spec stays as it is.

    Examples:
      modelyard rollback fraud
      # To revision 3 of `modelyard history fraud`
      modelyard rollback fraud 3
    """
    view = View.of(session.cluster.get(name))
    chosen = _named(session, name, revision) if revision else steering.earlier_of(view)
    _give(session, name, "rollback-to", chosen, timeout)


def _named(session: Session, name: str, word: str) -> str:
    records = parse_records(session.cluster.controller_revisions(name))
    return find_record(records, word).name


def _steer(session: Session, name: str, verb: str, guard: str | None, timeout: float) -> None:
    """Give a command about the candidate."""
    view = View.of(session.cluster.get(name))
    _give(session, name, verb, guard or steering.candidate_of(view, verb), timeout)


def _give(session: Session, name: str, verb: str, revision: str, timeout: float) -> None:
    """Write the annotation, wait for what becomes of it, and say it.

    Raises:
        NotAnsweredError: The operator has not recorded it in time.
        RefusedError: The operator recorded it and did not carry it out.
    """
    command_id = steering.make_id()
    session.cluster.annotate(name, steering.ANNOTATION, steering.text(verb, revision, command_id))
    last = _outcome(session, name, command_id, timeout)
    if last is None:
        raise NotAnsweredError(
            f"the operator has not taken {verb}@{revision} within {timeout:g} s",
            hint=f"`{session.caller.own('explain', name)}` tells whether one runs; it is taken when one does",
        )
    if last.result != steering.ACCEPTED:
        raise RefusedError(
            f"{verb} {revision}: {last.result}",
            hint=f"`{session.caller.own('explain', name)}` tells where the rollout is",
        )
    session.console.print(f"{verb} {revision}: {last.result}", soft_wrap=True)


def _outcome(session: Session, name: str, command_id: str, timeout: float) -> LastCommand | None:
    """Look until the operator has recorded a command; None when the time is up first."""
    deadline = time.monotonic() + timeout
    while True:
        if last := steering.outcome(View.of(session.cluster.get(name)), command_id):
            return last
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL_S)
