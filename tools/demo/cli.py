"""The command line: ``python -m demo``."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from demo.cluster import Cluster
from demo.ending import play_on, tear_down
from demo.errors import DemoError
from demo.images import Images
from demo.narrator import Narrator
from demo.options import Options, stays
from demo.story import Story
from localcluster.errors import LocalClusterError
from localcluster.paths import DEFAULT_NAME, Cache, ClusterPaths
from localcluster.provider import choose, make
from localcluster.report import fail

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

    from demo.checks import Check

HELP: Final = """Train two versions of a model on the spot, serve the first, and roll the second out
under constant load, while you watch what clients see.

It runs in the cluster of KUBECONFIG, in kind (CLUSTER=kind), or in a Kubernetes of its own that it
builds on this Linux machine. The first time takes about 20 minutes, later ones about 3.
"""
TERMINATED: Final = 128 + signal.SIGTERM

app = typer.Typer(help=HELP, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(  # noqa: PLR0913 - one parameter for each option of the command line
    *,
    name: Annotated[
        str, typer.Option(envvar="MODELYARD_CLUSTER", help="Name of the cluster.")
    ] = DEFAULT_NAME,
    provider: Annotated[
        str, typer.Option(envvar="CLUSTER", help="existing, kind, local or auto.")
    ] = "auto",
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Kubeconfig of a cluster that exists; default: KUBECONFIG.")
    ] = None,
    keep: Annotated[
        bool | None,
        typer.Option(
            "--keep/--down",
            envvar="KEEP",
            help="Leave everything running at the end, or remove it. By default it stays where "
            "somebody sits at a terminal, and where the cluster was there before.",
        ),
    ] = None,
    install: Annotated[
        bool, typer.Option(help="Install the chart; otherwise an operator must be running.")
    ] = True,
    rate: Annotated[float, typer.Option(help="Requests a second during the rollout.")] = 120.0,
    registry: Annotated[
        str,
        typer.Option(
            help="Pull the images from here, e.g. registry.example.com/acme/, and build none."
        ),
    ] = "",
    tag: Annotated[str, typer.Option(help="Tag of the images.")] = "dev",
    torch_index_url: Annotated[
        str,
        typer.Option(envvar="TORCH_INDEX_URL", help="Where the torch image takes torch from."),
    ] = "",
    proxy_address: Annotated[
        str, typer.Option(help="host:port of the proxy, where it is not found by itself.")
    ] = "",
) -> None:
    """Run the demo."""
    narrator = Narrator()
    paths = ClusterPaths(Cache.from_environment(os.environ), name)
    chosen = choose(provider, os.environ, kubeconfig)
    cluster = Cluster(make(chosen, paths, narrator, kubeconfig))
    options = Options(
        registry=f"{registry.rstrip('/')}/" if registry else "",
        tag=tag,
        torch_index_url=torch_index_url,
        proxy_address=proxy_address,
        install=install,
        rate=rate,
        keep=keep,
    )
    signal.signal(signal.SIGTERM, _end)
    if not run(cluster, narrator, options):
        raise typer.Exit(1)


def run(cluster: Cluster, narrator: Narrator, options: Options) -> bool:
    """Tell the story, then leave things as the user wants them.

    Args:
        cluster: Where it happens.
        narrator: Who tells it.
        options: What the user wants.

    Returns:
        Whether everything that was promised holds.
    """
    created = not cluster.provider.status().running
    keep = stays(
        asked=options.keep,
        created=created,
        interactive=sys.stdin.isatty() and sys.stdout.isatty(),
    )
    try:
        held = _tell(cluster, narrator, options)
        if keep:
            play_on(cluster, narrator)
    finally:
        if not keep:
            tear_down(cluster, narrator, created=created, installed=options.install)
    narrator.tell(f"{'Done' if held else 'Not as promised: see ✗ above'} · {narrator.elapsed}")
    return held


def _tell(cluster: Cluster, narrator: Narrator, options: Options) -> bool:
    narrator.title(
        "Modelyard: a model goes into production, and so does its next version",
        "1,797 scans of handwritten digits · two torch models, one of scikit-learn · real Kubernetes",
    )
    with (
        tempfile.TemporaryDirectory(prefix="modelyard-demo-") as folder,
        Images(cluster.provider, options, narrator) as images,
    ):
        checks: list[Check] = Story(cluster, narrator, options, Path(folder)).tell(images)
    return all(check.held for check in checks)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End with clean-up instead of at once."""
    del number, frame
    sys.exit(TERMINATED)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except (DemoError, LocalClusterError) as error:
        fail(error)
        sys.exit(1)
