"""``status`` and ``explain``: where a rollout is, and why."""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.console import RenderableType
from rich.live import Live

from modelyard_cli.completion import complete_names
from modelyard_cli.errors import CliError
from modelyard_cli.explain import explain as explain_view
from modelyard_cli.explanation import Seen
from modelyard_cli.output import Form, FormOption, NameArgument, write
from modelyard_cli.render.listing import render_explanation, render_list
from modelyard_cli.render.status import render_status
from modelyard_cli.sentences import headline
from modelyard_cli.session import Session, command
from modelyard_cli.view import Manifest, View

TICK_S: Final = 1.0
"""How often ages are brought up to date while nothing else changes."""

OptionalName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="Name of the ModelDeployment; without one, all are listed.",
        autocompletion=complete_names,
    ),
]
WatchOption = Annotated[
    bool, typer.Option("--watch", "-w", help="Stay and show every change; end with Ctrl-C.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app)(status)
    command(app)(explain)


def status(
    session: Session,
    name: OptionalName = None,
    *,
    watch: WatchOption = False,
    output: FormOption = Form.TEXT,
) -> None:
    """Show how far a rollout is, and on which evidence.

    Steps, split, both revisions' figures, the verdict so far, conditions and recent Events.

    Examples:
      # One line for each model of the namespace
      modelyard status
      # Everything about one, live
      modelyard status fraud --watch
      # The status as the operator wrote it
      modelyard status fraud -o yaml
    """
    if watch and (name is None or output is not Form.TEXT):
        raise typer.BadParameter("it shows one model, as text", param_hint="--watch")
    if name is None:
        _list(session, output)
    elif output is not Form.TEXT:
        write(session.cluster.get(name), output)
    elif not watch:
        session.console.print(_show(session, session.cluster.get(name)))
    else:
        with suppress(KeyboardInterrupt):  # how a watch ends
            _watch(session, name)


def explain(session: Session, name: NameArgument, *, output: FormOption = Form.TEXT) -> None:
    """Say why a model is not Ready, and what to run next.

    One paragraph: the cause, who answers meanwhile, what happens by itself; also for a rollout that
    is only under way.

    Examples:
      modelyard explain fraud
      # The reason alone, for a script
      modelyard explain fraud -o json | jq -r .reason
    """
    view = View.of(session.cluster.get(name))
    explanation = explain_view(Seen(view, session.caller, datetime.now(UTC)))
    if output is Form.TEXT:
        console = session.console
        console.print(render_explanation(explanation, console.width), soft_wrap=True)
    else:
        write(explanation.to_document(view), output)


def _list(session: Session, output: Form) -> None:
    found = session.cluster.list_all()
    if output is not Form.TEXT:
        write(found, output)
    elif found:
        session.console.print(render_list(map(View.of, found), datetime.now(UTC)))
    else:
        session.console.print(f"no ModelDeployments in namespace {session.cluster.namespace}")


def _show(session: Session, manifest: Manifest) -> RenderableType:
    view = View.of(manifest)
    seen = Seen(view, session.caller, datetime.now(UTC))
    return render_status(seen, session.cluster.pods(view.name), session.cluster.events(view.name))


def _watch(session: Session, name: str) -> None:
    if session.console.is_terminal:
        _live(session, name)
        return
    for line in _lines(session, name):
        session.console.print(line, soft_wrap=True)


def _live(session: Session, name: str) -> None:
    """Draw anew at each change, and every second for the ages."""
    with Live(console=session.console, auto_refresh=False, vertical_overflow="crop") as live:
        for manifest in _changes(session, name):
            live.update(_show(session, manifest), refresh=True)


def _lines(session: Session, name: str) -> Iterator[str]:
    """Yield a line for each thing that changes, for a log."""
    last = ""
    for manifest in session.cluster.watch(name):
        if manifest is None:
            return
        line = headline(View.of(manifest))
        if line != last:
            last = line
            yield f"{datetime.now(UTC):%H:%M:%S} {line}"


def _changes(session: Session, name: str) -> Iterator[Manifest]:
    """Yield the object at each change and each tick, until it is gone.

    Raises:
        CliError: It cannot be watched (any more).
    """
    arrived: queue.Queue[Manifest | CliError | None] = queue.Queue()

    def follow() -> None:
        try:
            for manifest in session.cluster.watch(name):
                arrived.put(manifest)
            arrived.put(None)
        except CliError as error:
            arrived.put(error)

    threading.Thread(target=follow, daemon=True).start()
    found = arrived.get()
    while found is not None:
        if isinstance(found, CliError):
            raise found
        yield found
        try:
            found = arrived.get(timeout=TICK_S)
        except queue.Empty:
            continue  # the same once more, a second older
