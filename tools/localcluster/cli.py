"""The command line: ``python -m localcluster``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path  # noqa: TC003 - read by typer
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from localcluster.errors import LocalClusterError
from localcluster.image import ImageBuild
from localcluster.names import canonical
from localcluster.paths import DEFAULT_NAME, Cache, ClusterPaths
from localcluster.provider import Provider, choose, make
from localcluster.report import Report, fail

HELP: Final = """A real Kubernetes cluster for Modelyard's tests and demos.

Who provides it (--provider, or CLUSTER in the environment):

\b
* existing: the cluster of --kubeconfig or KUBECONFIG, used as it is;
* kind: a cluster in Docker, made with the kind command;
* local: Kubernetes built from its Go modules and run on this
  Linux machine by root, in a network namespace of its own.
  First time about 12 minutes on 2 cores, later seconds.

auto takes the first of these that is possible here. Everything is kept below ~/.cache/modelyard.

\b
Typical:
    python -m localcluster up --addons dns,traefik,s3
    python -m localcluster image build -t modelyard/operator:dev -f Dockerfile.operator .
    python -m localcluster exec -- kubectl get pods -A
    python -m localcluster down
"""

app = typer.Typer(
    help=HELP, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
image_app = typer.Typer(
    help="Build images and make them available to pods.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(image_app, name="image")


@app.callback()
def select(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Option(
            envvar="MODELYARD_CLUSTER", help="Name of the cluster; several can run side by side."
        ),
    ] = DEFAULT_NAME,
    provider: Annotated[
        str, typer.Option(envvar="CLUSTER", help="existing, kind, local or auto.")
    ] = "auto",
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Kubeconfig of a cluster that exists; default: KUBECONFIG.")
    ] = None,
) -> None:
    """Choose the cluster that the command is about."""
    paths = ClusterPaths(Cache.from_environment(os.environ), name)
    chosen = choose(provider, os.environ, kubeconfig)
    context.obj = make(chosen, paths, Report(), kubeconfig)


@app.command()
def up(
    context: typer.Context,
    addons: Annotated[
        str,
        typer.Option(
            help="Comma-separated: dns (names of Services), traefik (Ingresses of class nginx), s3 "
            "(a bucket `models`), metrics-server (autoscaling on CPU), gateway-api (HTTPRoutes; "
            "Traefik then has a Gateway, traefik/public), envoy-gateway (the Gateway "
            "gateways/public); or all, which leaves out what the provider cannot install. Remembered "
            "until `down`."
        ),
    ] = "",
) -> None:
    """Create the cluster; or repair it: start what is dead, and leave alone what runs."""
    cluster: Provider = context.obj
    cluster.up([name.strip() for name in addons.split(",") if name.strip()])


@app.command()
def down(
    context: typer.Context,
    *,
    purge: Annotated[bool, typer.Option("--purge", help="Also remove the loaded images.")] = False,
) -> None:
    """Stop and remove the cluster; built programs and images stay in the cache."""
    cluster: Provider = context.obj
    cluster.down(purge=purge)


@app.command()
def status(
    context: typer.Context,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Everything, as JSON: paths, processes, nodes, add-ons.")
    ] = False,
) -> None:
    """Show components, nodes and add-ons. Ends with code 1 when the cluster does not run."""
    cluster: Provider = context.obj
    found = cluster.status()
    if as_json:
        print(json.dumps({"provider": found.provider, "running": found.running, **found.details}))
    else:
        table = Table("what", "state", "pid", "RSS", box=None)
        for component in found.details.get("components", []):
            state = "running" if component["alive"] else "dead"
            memory = f"{component['rss_bytes'] / 2**20:.0f} MiB"
            table.add_row(component["name"], state, str(component["pid"]), memory)
        for node in found.details.get("nodes", []):
            table.add_row(f"node {node['name']}", "Ready" if node["ready"] else "NotReady")
        for addon in found.details.get("addons", []):
            table.add_row(f"add-on {addon}", "installed")
        table.add_row(f"cluster ({found.provider})", "up" if found.running else "down")
        Console().print(table)
    raise typer.Exit(0 if found.running else 1)


@app.command(
    name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
def execute(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(help="Program and arguments, after `--`.")],
) -> None:
    """Run a command where the cluster can be reached, with KUBECONFIG, kubectl and helm set up.

    Input, output and exit code are the command's own.
    """
    cluster: Provider = context.obj
    call = cluster.invocation(command)
    try:
        os.execvpe(call.argv[0], call.argv, call.env)  # noqa: S606 - becomes the command
    except FileNotFoundError as error:
        raise LocalClusterError(f"{call.argv[0]} is not installed here") from error


@app.command()
def kubeconfig(context: typer.Context) -> None:
    """Print the path of the administrator's kubeconfig.

    With the local provider it is of use only inside the cluster's network: see `exec`.
    """
    cluster: Provider = context.obj
    print(cluster.kubeconfig)


@app.command(name="load-image")
def load_image(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name that pods use.")],
    archive: Annotated[
        Path | None, typer.Argument(help="OCI or Docker archive, as `docker save` writes it.")
    ] = None,
    build_from: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--build", metavar="DOCKERFILE CONTEXT", help="Build it instead."),
    ] = None,
    build_arg: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, repeatable.")] = None,
) -> None:
    """Make an image available to pods, from an archive or a Dockerfile."""
    cluster: Provider = context.obj
    if build_from is not None:
        cluster.build_image(
            ImageBuild(canonical(name), *build_from, build_args=_arguments(build_arg))
        )
    elif archive is not None:
        cluster.load_archive(canonical(name), archive.absolute())
    else:
        raise LocalClusterError("load-image: give an archive, or --build DOCKERFILE CONTEXT")


@image_app.command(name="build")
def build_image(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="CONTEXT", help="Folder to copy files from.")],
    tag: Annotated[str, typer.Option("-t", "--tag", help="Name that pods use.")],
    file: Annotated[Path | None, typer.Option("-f", "--file", help="The Dockerfile.")] = None,
    build_arg: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, repeatable.")] = None,
    target: Annotated[str, typer.Option(help="Stage to stop at.")] = "",
) -> None:
    """Build an image and make it available to pods; does nothing while its inputs stay the same."""
    cluster: Provider = context.obj
    build = ImageBuild(
        canonical(tag),
        (file or folder / "Dockerfile").absolute(),
        folder.absolute(),
        _arguments(build_arg),
        target,
    )
    if not cluster.build_image(build):
        print(f"{build.name} is up to date")


def _arguments(given: list[str] | None) -> dict[str, str]:
    """Return KEY=VALUE words as a mapping; a KEY alone takes its value from the environment."""
    pairs = (word.partition("=") for word in given or [])
    return {key: value if equals else os.environ.get(key, "") for key, equals, value in pairs}


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="python -m localcluster")
    except LocalClusterError as error:
        fail(error)
        sys.exit(1)
