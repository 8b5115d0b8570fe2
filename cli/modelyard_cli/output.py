"""Answers for machines, and the options that several commands share."""

import json
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
import yaml

from modelyard_cli.completion import complete_names


class Form(StrEnum):
    """How an answer is written."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


FormOption = Annotated[
    Form,
    typer.Option("--output", "-o", help="text for people, json or yaml for machines."),
]
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of the ModelDeployment.", autocompletion=complete_names
    ),
]
INDENT: Final = 2


def write(document: Any, form: Form) -> None:
    """Print a document as JSON or YAML."""
    if form is Form.JSON:
        typer.echo(json.dumps(document, indent=INDENT, ensure_ascii=False))
    else:
        typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
