"""The command line: ``python -m demo``."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from demo.arguments import parse
from demo.cluster import Cluster
from demo.ending import play_on, tear_down
from demo.errors import DemoError
from demo.images import Images
from demo.narrator import Narrator
from demo.options import stays
from demo.story import Story
from localcluster.errors import LocalClusterError
from localcluster.paths import Cache, ClusterPaths
from localcluster.provider import choose, make
from localcluster.report import fail

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

    from demo.checks import Check
    from demo.options import Options

TERMINATED: Final = 128 + signal.SIGTERM


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
            play_on(cluster, narrator, options.proxy)
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
    place, options = parse(None, os.environ)
    narrator = Narrator()
    paths = ClusterPaths(Cache.from_environment(os.environ), place.name)
    signal.signal(signal.SIGTERM, _end)
    try:
        chosen = choose(place.provider, os.environ, place.kubeconfig)
        cluster = Cluster(make(chosen, paths, narrator, place.kubeconfig))
        held = run(cluster, narrator, options)
    except (DemoError, LocalClusterError) as error:
        fail(error)
        sys.exit(1)
    sys.exit(0 if held else 1)
