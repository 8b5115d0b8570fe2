"""``predict``: one request to a model, without a route."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from modelyard_cli.errors import BodyError, CliError, NoRolloutError
from modelyard_cli.history import find_record, parse_records
from modelyard_cli.output import NameArgument
from modelyard_cli.prediction import build_question
from modelyard_cli.session import Session, command
from modelyard_cli.view import View

STDIN = "-"
OK = range(200, 300)
SHOWN = ("x-modelyard-revision", "x-modelyard-model-version", "x-request-id")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    command(app)(predict)


def predict(  # noqa: PLR0913 - one parameter for each option of the command line
    session: Session,
    name: NameArgument,
    body: Annotated[
        str,
        typer.Argument(
            metavar="BODY", help="File with JSON, npy, a picture or text; - for standard input."
        ),
    ],
    *,
    revision: Annotated[
        str | None,
        typer.Option(
            metavar="REVISION", help="Ask this one, by name, start of its hash or number."
        ),
    ] = None,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="Ask the candidate, whatever its share is.")
    ] = False,
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", "-H", metavar="'NAME: VALUE'", help="Send a header, such as X-API-Key."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Longest wait for the answer.")
    ] = 60.0,
) -> None:
    """Send a request to a model; it needs no route.

    The request goes through the API server (services/proxy). The body's form chooses the protocol: an Open Inference Protocol request, V1 `instances`, or just
    rows. The answer goes to standard output; who answered goes to standard error.

    Examples:
      echo '[[5.1, 3.5, 1.4, 0.2]]' | modelyard predict iris -
      modelyard predict fraud request.json
      # The new version, before it gets any traffic
      modelyard predict fraud batch.npy --candidate
    """
    view = View.of(session.cluster.get(name))
    service, model = _target(session, view, revision, candidate=candidate)
    question = build_question(_read(body), model, headers=header or (), timeout_s=timeout)
    answer = session.cluster.ask(service, question)
    told = [f"{key}: {answer.headers[key]}" for key in SHOWN if key in answer.headers]
    typer.echo(" · ".join([f"HTTP {answer.status}", *told]), err=True)
    text = answer.body.decode(errors="replace")
    if answer.status not in OK:
        raise CliError(f"the model answered {answer.status}: {text.strip()}")
    typer.echo(_pretty(text), nl=False)


def _target(
    session: Session, view: View, revision: str | None, *, candidate: bool
) -> tuple[str, str]:
    """Return the Service to ask, and the name that the model has there.

    Raises:
        NoRolloutError: The candidate is asked for and there is none, or nothing serves yet.
    """
    records = parse_records(session.cluster.controller_revisions(view.name))
    if revision:
        chosen = find_record(records, revision).name
    else:
        chosen = view.candidate if candidate else view.stable
    if not chosen:
        what = "no rollout is under way" if candidate else "no revision serves yet"
        raise NoRolloutError(
            f"{view.name}: {what}", hint=f"`{session.caller.own('explain', view.name)}` tells why"
        )
    record = next((one for one in records if one.name == chosen), None)
    return chosen, (record.model_name if record else "") or view.model_name


def _read(body: str) -> bytes:
    if body == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(body).read_bytes()
    except OSError as error:
        raise BodyError(f"{body} cannot be read: {error.strerror}") from error


def _pretty(text: str) -> str:
    """Return JSON with a line for each field at a terminal, and anything else as it is."""
    if not sys.stdout.isatty():
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
    except ValueError:
        return text
