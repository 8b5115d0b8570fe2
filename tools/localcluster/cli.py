"""The command line: ``python -m localcluster``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from localcluster.errors import LocalClusterError
from localcluster.image import ImageBuild
from localcluster.names import canonical
from localcluster.paths import DEFAULT_NAME, Cache, ClusterPaths
from localcluster.provider import Provider, choose, make
from localcluster.report import Report, fail

app = typer.Typer(
    help=__doc__, no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False
)
image_app = typer.Typer(help="Build images and load them.", no_args_is_help=True)
app.add_typer(image_app, name="image")


@app.callback()
def select(
    context: typer.Context,
    name: Annotated[str, typer.Option(envvar="MODELYARD_CLUSTER", help="Name.")] = DEFAULT_NAME,
    provider: Annotated[str, typer.Option(envvar="CLUSTER", help="Provider.")] = "auto",
    kubeconfig: Annotated[Path | None, typer.Option(help="Kubeconfig.")] = None,
) -> None:
    """Choose."""
    report = Report()
    paths = ClusterPaths(Cache.from_environment(os.environ), name)
    chosen = choose(provider, os.environ, kubeconfig)
    context.obj = make(chosen, paths, report, kubeconfig)


@app.command()
def up(context: typer.Context, addons: Annotated[str, typer.Option()] = "") -> None:
    """Create the cluster, or repair it."""
    cluster: Provider = context.obj
    cluster.up([a for a in addons.split(",") if a])


@app.command()
def down(context: typer.Context) -> None:
    """Remove the cluster."""
    cluster: Provider = context.obj
    cluster.down()


@app.command()
def kubeconfig(context: typer.Context) -> None:
    """Print the path of the kubeconfig."""
    cluster: Provider = context.obj
    print(cluster.kubeconfig)


@app.command(name="exec", context_settings={"ignore_unknown_options": True})
def execute(context: typer.Context, command: list[str]) -> None:
    """Run a command."""
    cluster: Provider = context.obj
    i = cluster.invocation(command)
    os.execvpe(i.argv[0], i.argv, i.env)


@app.command()
def status(context: typer.Context) -> None:
    """Show status."""
    cluster: Provider = context.obj
    print(json.dumps(cluster.status().details, default=vars, indent=1))


@image_app.command()
def build(context: typer.Context, tag: Annotated[str, typer.Option("-t")], file: Annotated[Path, typer.Option("-f")], folder: Path) -> None:
    """Build."""
    cluster: Provider = context.obj
    cluster.build_image(ImageBuild(canonical(tag), file, folder))


def main() -> None:
    """Run the command line."""
    try:
        app()
    except LocalClusterError as error:
        fail(error)
        sys.exit(1)
