"""Completion in shells: names of ModelDeployments, and what ``kubectl`` asks its plugins for.

References:
    https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/, "Shell completion".
"""

import os
import shlex
import sys
from typing import Final

import typer

from modelyard_cli.errors import CliError
from modelyard_cli.session import Session

PROGRAM: Final = "modelyard"
PROTOCOL: Final = ("_MODELYARD_COMPLETE", "complete_bash")
"""How typer is asked for candidates, one a line; that is also what kubectl wants to read."""


def complete_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the ModelDeployments whose name begins as typed; none where they cannot be read."""
    chosen = {key: context.params.get(key) for key in ("namespace", "context", "kubeconfig")}
    try:
        found = Session(**chosen).cluster.list_all()
    except CliError:  # a completion has nowhere to say so
        return []
    names = (one["metadata"]["name"] for one in found)
    return [name for name in names if name.startswith(incomplete)]


def main() -> None:
    """Answer ``kubectl`` when it completes ``kubectl modelyard``: one candidate a line."""
    from modelyard_cli.app import app  # noqa: PLC0415 - the app completes by this module

    words = sys.argv[1:]
    name, value = PROTOCOL
    os.environ |= {
        name: value,
        "COMP_WORDS": shlex.join([PROGRAM, *words]),
        "COMP_CWORD": str(len(words)),
    }
    app(prog_name=PROGRAM)
