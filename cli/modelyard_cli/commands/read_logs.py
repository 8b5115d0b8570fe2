"""``logs``: what the pods of a model say, each line with who said it."""

from contextlib import suppress
from functools import partial
from typing import Annotated, Final

import typer
from rich.text import Text

from modelyard_cli.errors import NoRolloutError
from modelyard_cli.following import Follower
from modelyard_cli.history import find_record, parse_records
from modelyard_cli.log_sources import Source, choose_sources
from modelyard_cli.output import NameArgument
from modelyard_cli.session import Session, command
from modelyard_cli.view import Manifest, View

STYLES: Final = ("green", "magenta", "cyan", "yellow", "blue")

RevisionOption = Annotated[
    str | None,
    typer.Option(metavar="REVISION", help="Only this one, by name, start of its hash or number."),
]
StableOption = Annotated[bool, typer.Option("--stable", help="Only the stable revision.")]
CandidateOption = Annotated[bool, typer.Option("--candidate", help="Only the candidate.")]
ContainerOption = Annotated[
    str,
    typer.Option(
        "--container",
        "-c",
        metavar="NAME",
        help="runtime or model-fetch; default: the one that has something to say.",
    ),
]
FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Stay, and read pods that come later, too.")
]
PreviousOption = Annotated[
    bool, typer.Option("--previous", "-p", help="The last run that ended, such as a crash.")
]
TailOption = Annotated[
    int, typer.Option(metavar="LINES", help="Last lines of each container; -1 for all.")
]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    command(app)(logs)


def logs(  # noqa: PLR0913 - one parameter for each option of the command line
    session: Session,
    name: NameArgument,
    *,
    revision: RevisionOption = None,
    stable: StableOption = False,
    candidate: CandidateOption = False,
    container: ContainerOption = "",
    following: FollowOption = False,
    previous: PreviousOption = False,
    tail: TailOption = 100,
) -> None:
    """Show what the pods say, line by line.

    Each line begins with the revision and the pod that it comes from.

    Examples:
      modelyard logs fraud --candidate --follow
      # Why it crashed
      modelyard logs fraud --revision fraud-91ab44d0 --previous
      # The download of the model
      modelyard logs fraud -c model-fetch
    """
    view = View.of(session.cluster.get(name))
    chosen = _revision(session, view, revision, stable=stable, candidate=candidate)
    query = {} if tail < 0 else {"tailLines": str(tail)}
    styles: dict[str, str] = {}

    def show(source: Source, line: str) -> None:
        style = styles.setdefault(source.revision, STYLES[len(styles) % len(STYLES)])
        session.console.print(Text.assemble((source.prefix, style), " ", line), soft_wrap=True)

    pods = session.cluster.pods(name)
    found = choose_sources(pods, revision=chosen, container=container, previous=previous)
    if following and not previous:
        choose = partial(_choose_one, revision=chosen, container=container)
        with suppress(KeyboardInterrupt):  # how following ends
            Follower(session.cluster, name, choose, query).follow(show)
        return
    if not found:
        who = chosen or name
        what = "no container has ended yet" if previous else "no container has started yet"
        raise NoRolloutError(
            f"{who}: {what}", hint=f"`{session.caller.own('explain', name)}` tells why"
        )
    for source in found:
        ended = {"previous": "true"} if source.previous else {}
        for line in session.cluster.log(
            source.pod, {"container": source.container, **query, **ended}
        ):
            show(source, line)


def _choose_one(pod: Manifest, *, revision: str, container: str) -> list[Source]:
    return choose_sources([pod], revision=revision, container=container)


def _revision(
    session: Session, view: View, revision: str | None, *, stable: bool, candidate: bool
) -> str:
    """Return the only revision to read; empty for all."""
    if revision:
        records = parse_records(session.cluster.controller_revisions(view.name))
        return find_record(records, revision).name
    for wanted, found, role in (
        (stable, view.stable, "stable"),
        (candidate, view.candidate, "candidate"),
    ):
        if wanted and not found:
            raise NoRolloutError(f"{view.name} has no {role} revision now")
        if wanted:
            return found
    return ""
