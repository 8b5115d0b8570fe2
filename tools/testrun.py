"""Run the project's checks in named parts, and say how long each of them took.

    python tools/testrun.py check            format, lint, types, import contracts, unit tests
    python tools/testrun.py check cluster    and the tests on a real cluster
    python tools/testrun.py chaos            the long ones

A failed part does not keep the others from running; the exit code tells whether one failed.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "modelyard"
PYTEST: Final = (sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={CACHE}/pytest")
SIDE_BY_SIDE: Final = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
"""Files of tests side by side, in their order: the longest hold few tests, and must not come last."""
ROLLOUT: Final = "tests/operator/rollout"
"""In a process of their own: which examples are drawn depends on the modules that are loaded."""
APART: Final = (f"--ignore={ROLLOUT}", "--ignore=tests/cluster")
"""Files that other parts run; collecting them takes time in each process."""
LOCALCLUSTER: Final = (sys.executable, "-m", "localcluster")


@dataclass(frozen=True)
class Part:
    """One part of a run.

    Attributes:
        name: What is checked.
        command: How.
        environment: Variables on top of the caller's.
        always: Run it even when an earlier part that it builds on has failed.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    always: bool = True


CLUSTER_UP: Final = Part("cluster up", (*LOCALCLUSTER, "up", "--addons", "all"))
CHECK: Final = (
    Part("format", (str(BIN / "ruff"), "format", "--check", "--quiet", ".")),
    Part("lint", (str(BIN / "ruff"), "check", "--quiet", ".")),
    Part("types", (sys.executable, "-m", "mypy")),
    Part("import contracts", (str(BIN / "lint-imports"), "--no-cache")),
    Part("rollout machine", (*PYTEST, ROLLOUT, "-m", "not slow")),
    Part(
        "unit tests",
        (*PYTEST, *SIDE_BY_SIDE, *APART, "-m", "not slow"),
    ),
)
CLUSTER: Final = (
    CLUSTER_UP,
    # After the cluster, which builds the S3 server that one of them fetches from.
    Part("rollout machine, long", (*PYTEST, ROLLOUT, "-m", "slow")),
    Part("slow tests", (*PYTEST, *SIDE_BY_SIDE, *APART, "-m", "slow")),
    Part("cluster tests", (*PYTEST, "-m", "cluster"), always=False),
)
BATCHING: Final = ("tests/runtime/test_backlog.py", "tests/runtime/test_batching_properties.py")
MANY_EXAMPLES: Final = {"HYPOTHESIS_PROFILE": "chaos"}
EVERYTHING: Final = {"MODELYARD_CHAOS": "1"}
"""Makes a test on the cluster do all of what it does a sample of otherwise."""
CHAOS: Final = (
    Part("rollout machine", (*PYTEST, ROLLOUT), MANY_EXAMPLES),
    Part("property tests", (*PYTEST, *APART, "tests/operator", *BATCHING), MANY_EXAMPLES),
    CLUSTER_UP,
    # One after the other: together they would wait for processors, and fail by the clock.
    Part("rollouts in a row", (*PYTEST, "tests/cluster/test_rollouts.py"), EVERYTHING),
    Part("bad canaries", (*PYTEST, "tests/cluster/test_bad_canaries.py"), EVERYTHING),
    Part("proxies", (*PYTEST, "tests/cluster/proxies"), EVERYTHING),
    Part("crash matrix", (*PYTEST, "tests/cluster/test_restarts.py"), EVERYTHING),
)
GROUPS: Final = {"check": CHECK, "cluster": CLUSTER, "chaos": CHAOS}

console = Console(highlight=False)


def cluster_runs() -> bool:
    """Tell whether the local cluster was there before this run."""
    return (
        subprocess.run((*LOCALCLUSTER, "status"), capture_output=True, check=False).returncode == 0
    )


def run_part(part: Part) -> tuple[bool, float]:
    """Run one part; returns whether it passed and how long it took, in seconds."""
    console.rule(f"[bold]{part.name}[/]", align="left", style="dim")
    started = time.monotonic()
    passed = (
        subprocess.run(
            part.command, cwd=ROOT, env={**os.environ, **part.environment}, check=False
        ).returncode
        == 0
    )
    return passed, time.monotonic() - started


def run(groups: list[str]) -> bool:
    """Run the parts of some groups and print the table; returns whether all passed."""
    table = Table(box=None, header_style="bold")
    for column in ("part", "result", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    passed_all = True
    for part in (part for group in groups for part in GROUPS[group]):
        if not part.always and not passed_all:
            table.add_row(part.name, "[yellow]not run[/]", "")
            continue
        passed, seconds = run_part(part)
        passed_all &= passed
        table.add_row(part.name, "[green]ok[/]" if passed else "[red]FAILED[/]", f"{seconds:.1f}")
    console.rule(style="dim")
    console.print(table)
    return passed_all


def main() -> int:
    """Run the groups named on the command line."""
    groups = sys.argv[1:]
    if not groups or set(groups) - GROUPS.keys():
        console.print(__doc__)
        return 2
    takes_down = bool({"cluster", "chaos"} & set(groups)) and not cluster_runs()
    try:
        return 0 if run(groups) else 1
    finally:
        if takes_down:
            subprocess.run((*LOCALCLUSTER, "down"), check=False)
        shutil.rmtree(ROOT / ".hypothesis", ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
