"""Entry point of ``modelyard`` and of ``kubectl modelyard``."""

import sys

import typer

from modelyard_cli.app import app
from modelyard_cli.errors import CliError
from modelyard_cli.session import program_name


def main() -> None:
    """Run the command line; an error ends it with exit code 1 and a sentence."""
    try:
        app(prog_name=program_name())
    except CliError as error:
        typer.secho(f"Error: {error}", fg=typer.colors.RED, err=True)
        if error.hint:
            typer.echo(f"Hint: {error.hint}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
