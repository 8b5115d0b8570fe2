"""``history`` and ``diff``: what was served, and what an edit changed."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from modelyard_cli.diff import changes, choose_pair, content, unified
from modelyard_cli.history import parse_records, to_documents
from modelyard_cli.output import Form, FormOption, NameArgument, write
from modelyard_cli.render.listing import render_diff, render_history
from modelyard_cli.session import Session, command
from modelyard_cli.view import View

RevisionArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="REVISION",
        help="Revisions by name, the start of their hash, or number; default: stable and candidate, "
        "else the one before stable, and stable. One alone is compared with stable.",
    ),
]
MOST_REVISIONS = 2


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app)(history)
    command(app)(diff)


def history(session: Session, name: NameArgument, *, output: FormOption = Form.TEXT) -> None:
    """List the revisions on record, and what became of each.

    Examples:
      modelyard history fraud
      # The revision that was rejected last
      modelyard history fraud -o json | jq -r 'map(select(.fate | startswith("rejected")))[0].revision'
    """
    view = View.of(session.cluster.get(name))
    records = parse_records(session.cluster.controller_revisions(name))
    if output is Form.TEXT:
        session.console.print(render_history(records, view, datetime.now(UTC)))
    else:
        write(to_documents(records, view), output)


def diff(
    session: Session,
    name: NameArgument,
    revisions: RevisionArguments = None,
    *,
    template: Annotated[
        bool, typer.Option("--template", help="Compare the pod templates instead of the spec.")
    ] = False,
    output: FormOption = Form.TEXT,
) -> None:
    """Show what differs between two revisions.

    Compared are the fields of their specs that reach the pods, and the contents of their files.

    Examples:
      # What the rollout under way changes
      modelyard diff fraud
      # Revision 3 and the one that serves
      modelyard diff fraud 3
      # Two revisions, down to the pod template
      modelyard diff fraud 7c9fe102 91ab44d0 --template
    """
    words = revisions or []
    if len(words) > MOST_REVISIONS:
        raise typer.BadParameter(f"expected at most 2 revisions, got {len(words)}")
    view = View.of(session.cluster.get(name))
    records = parse_records(session.cluster.controller_revisions(name))
    first, second = choose_pair(records, view, words)
    if output is Form.TEXT:
        lines = unified(first, second, template=template)
        same = [f"{first.name} and {second.name} do not differ in what is compared"]
        session.console.print(render_diff(lines or same), soft_wrap=True)
        return
    old, new = (content(record, template=template) for record in (first, second))
    found = [change.to_document() for change in changes(old, new)]
    write({"from": first.name, "to": second.name, "changes": found}, output)
