"""Measure the runtime beside a bare server, a naive one and its peers, and write the tables.

    python benchmarks/runtime/bench.py                  everything, about half an hour
    python benchmarks/runtime/bench.py --models m1 --peers none --seconds 3 --rounds 1

Absolute figures belong to one machine on one day; the ratios are what counts.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from architectures import build
from artifacts import check, make, row
from contestants import PACKAGES, TORCH, ours, peer
from costs import sections
from load import Load, ensure_wrk, load, middle
from processes import started
from rich.console import Console
from rich.table import Table
from torch_limit import items_per_second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from artifacts import Artifacts
    from contestants import Contestant

RESULTS: Final = Path(__file__).parent.parent / "results" / "runtime.md"
CONNECTIONS: Final = (1, 16, 64)
OURS: Final = ("torch", "fastapi", "uvicorn", "uvloop", "orjson", "numpy")
HEADS: Final = (
    "server",
    *(f"req/s c{n}" for n in CONNECTIONS),
    *(f"p50/p99 ms c{n}" for n in CONNECTIONS),
    "c64 / limit",
    "c64 / naive",
    "CPU ms/req c64",
    "PSS MiB",
    "start s",
    "errors",
)


@dataclass
class Measured:
    """What has been seen of one contestant: a figure per round."""

    loads: dict[int, list[Load]]
    pss_mib: float = 0.0
    start_s: float = float("inf")


class Bench:
    """One run of the load table for one model.

    Args:
        artifacts: The models.
        model: ``m1`` or ``m2``.
        seconds: Of load for each figure.
        console: Where progress is told.
    """

    def __init__(self, artifacts: Artifacts, model: str, seconds: float, console: Console) -> None:
        self._artifacts = artifacts
        self._model = model
        self._seconds = seconds
        self._console = console
        self.measured: dict[str, Measured] = {}
        self.absent: dict[str, str] = {}

    def run(self, contestants: Sequence[Contestant], rounds: int, folder: Path) -> None:
        """Measure everybody in every round, in another order each."""
        for turn in range(rounds):
            shift = turn % len(contestants)
            for contestant in (*contestants[shift:], *contestants[:shift]):
                if contestant.name in self.absent:
                    continue
                self._console.print(f"{self._model}, round {turn + 1}: {contestant.name}")
                try:
                    self._measure(contestant, folder)
                except RuntimeError as error:
                    self._console.print(f"[red]{error}[/]")
                    self.absent[contestant.name] = str(error).strip().splitlines()[0]

    def _measure(self, contestant: Contestant, folder: Path) -> None:
        request = contestant.request
        with started(
            contestant.command, contestant.environment, request, folder / "server.log"
        ) as server:
            if "hello" not in contestant.name:
                check(
                    server.answer,
                    self._artifacts.expected[self._model],
                    binary_answer="inference-header-content-length" in request.headers,
                )
            load(server, request, connections=16, seconds=1)
            seen = {
                n: load(server, request, connections=n, seconds=self._seconds) for n in CONNECTIONS
            }
            figures = self.measured.setdefault(
                contestant.name, Measured({n: [] for n in CONNECTIONS})
            )
            figures.pss_mib = max(figures.pss_mib, server.pss_mib())
            figures.start_s = min(figures.start_s, server.start_s)
            for n, each in seen.items():
                figures.loads[n].append(each)

    def rows(self, limit: float | None) -> list[tuple[str, ...]]:
        """Turn what was seen into the table's rows.

        Args:
            limit: The most that could be had, in requests a second; None takes the bare server's.
        """
        rates = {name: middle(seen.loads[64]).rate for name, seen in self.measured.items()}
        most = limit or rates.get("bare uvicorn hello", float("nan"))
        naive = rates.get("naive FastAPI + torch", float("nan"))
        return [self._row(name, seen, most, naive) for name, seen in self.measured.items()]

    @staticmethod
    def _row(name: str, seen: Measured, most: float, naive: float) -> tuple[str, ...]:
        loads = {n: middle(seen.loads[n]) for n in CONNECTIONS}
        return (
            name,
            *(f"{each.rate:,.0f}" for each in loads.values()),
            *(f"{each.p50_ms:.2f} / {each.p99_ms:.1f}" for each in loads.values()),
            f"{loads[64].rate / most:.2f}",
            f"{loads[64].rate / naive:.1f}",
            f"{loads[64].cpu_ms:.3f}",
            f"{seen.pss_mib:.0f}",
            f"{seen.start_s:.1f}",
            str(sum(each.errors for each in loads.values())),
        )


def contestants_of(
    artifacts: Artifacts, model: str, peers: Sequence[str], folder: Path, bench: Bench
) -> list[Contestant]:
    """List who takes part; a peer that cannot be installed is named with its reason."""
    found = ours(artifacts, model)
    for name in peers:
        try:
            found.append(peer(name, model, folder / f"{name}-{model}"))
        except RuntimeError as error:
            bench.absent[name] = str(error)
    return found


def limit_of(model: str) -> tuple[float | None, str]:
    """Say what the last columns are relative to."""
    if model == "m1":
        return None, "the bare server at the same connections"
    rate = items_per_second(build(model), row(model), batch=32)
    return rate, f"a bare torch loop at batch 32, one thread: {rate:.0f} items/s"


def show(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Print a table, and return it in Markdown."""
    table = Table(*heads)
    for each in rows:
        table.add_row(*each)
    console.print(table)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def environment_of(arguments: Sequence[str]) -> str:
    """Say what was measured, with what, and where."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in OURS)
    peers = ", ".join(words[0].replace("==", " ") for words in PACKAGES.values())
    return (
        "# The runtime under load\n\n"
        f"`python benchmarks/runtime/bench.py {' '.join(arguments)}`: medians of the rounds, closed "
        "loop by wrk (one thread, on the same processors), one fixed body, one model process, one "
        "compute thread, batches of at most 32; every server's first answer is compared with the "
        "model's own. Read the ratios.\n\n"
        f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f} before the first "
        f"server, Python {platform.python_version()}, {versions}. Peers: {peers}, {TORCH}.\n\n"
        "M1 is an MLP 128-256-256-10 (JSON body 2.7 kB), M2 a ResNet-18 for 3x64x64 images.\n"
    )


def main() -> None:
    """Run the benchmark and write ``benchmarks/results/runtime.md``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8, help="of load per figure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default="m1,m2", help="comma-separated")
    parser.add_argument("--peers", default=",".join(PACKAGES), help="comma-separated, or none")
    parser.add_argument("--without-costs", action="store_true", help="only the load tables")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    ensure_wrk()
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 200)
    peers = [name for name in arguments.peers.split(",") if name in PACKAGES]
    text = environment_of(sys.argv[1:])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifacts = make(folder)
        for model in arguments.models.split(","):
            limit, words = limit_of(model)
            bench = Bench(artifacts, model, arguments.seconds, console)
            bench.run(
                contestants_of(artifacts, model, peers, folder, bench), arguments.rounds, folder
            )
            text += f"\n## {model.upper()}\n\nLimit: {words}.\n\n"
            text += show(console, HEADS, bench.rows(limit))
            text += "".join(f"\nNot measured: {k}: {v}\n" for k, v in bench.absent.items())
        if not arguments.without_costs:
            for title, explanation, heads, rows in sections(artifacts, folder, arguments.seconds):
                console.rule(title)
                text += f"\n## {title}\n\n{explanation}\n\n{show(console, heads, rows)}"
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")
    console.print(f"written: {arguments.output.name}")


if __name__ == "__main__":
    main()
