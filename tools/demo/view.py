"""The live table of a rollout: the plan on the left, what clients see on the right; pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from demo.rollout import Rollout, Step
    from demo.samples import Summary

BAR_CELLS: Final = 12
WORDS: Final = {
    "Idle": "nothing is in progress",
    "Preparing": "a place is found for version {version}",
    "WaitingCapacity": "there is no room for version {version} yet",
    "Warming": "pods of version {version} get ready",
    "Shadowing": "version {version} answers copies of live requests; answers are compared",
    "Shifting": "the route moves",
    "Analyzing": "the weight is confirmed; clients are counted",
    "Paused": "paused",
    "Promoting": "version {version} is stable; the primary route moves to it",
    "Probation": "the canary route goes; the old pods stay warm for a while",
    "RollingBack": "traffic returns",
    "RolledBack": "version {version} was rejected",
}
"""States of the rollout, for somebody who has not read the manual."""


def render(
    rollout: Rollout, steps: Sequence[tuple[Step, Summary]], total: Summary, elapsed_s: float
) -> RenderableType:
    """Return the table and the lines below it.

    Args:
        rollout: Where the rollout stands.
        steps: Each step with the figures of its requests.
        total: Figures of all requests since the load began.
        elapsed_s: Time since the load began.
    """
    # 76 columns: a terminal of 80 shows it all.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("step")
    table.add_column("weight", justify="right")
    table.add_column("clients saw", min_width=BAR_CELLS + 8)
    versions = (rollout.before, rollout.version)
    for heading in ("requests", "errors", "p50 ms", "p99 ms", *(f"v{name}" for name in versions)):
        table.add_column(heading, justify="right")
    for step, summary in steps:
        table.add_row(*_row(step, summary, versions))
    failed = Text(f"{total.failed} failed", style="bold red" if total.failed else "green")
    sums = Text.assemble(f"{total.requests:,} requests, ", failed, (f" · {elapsed_s:.0f} s", "dim"))
    words = WORDS.get(rollout.state, "").format(version=rollout.version)
    state = Text.assemble((rollout.state, "bold"), f": {words}" if words else "")
    return Group(table, *_shadow(rollout), state, sums)


def describe(rollout: Rollout, steps: Sequence[tuple[Step, Summary]], total: Summary) -> str:
    """Return the same in one line, for a log."""
    running = [item for item in steps if item[0].began_s is not None and item[0].ended_s is None]
    told = f"{rollout.state:<15}"
    if running:
        step, summary = running[-1]
        told += (
            f" step {step.number}: weight {step.weight} %, clients saw "
            f"{_number(summary.share(rollout.version), '.1f')} % of {summary.requests:,};"
        )
    return f"{told} {total.requests:,} requests, {total.failed} failed"


def bar(percent: float, mark: int) -> Text:
    """Return a bar of what clients saw; its end is where the weight is."""
    if math.isnan(percent):
        return Text("·" * BAR_CELLS, style="dim")
    filled = round(percent / 100 * BAR_CELLS)
    wanted = round(mark / 100 * BAR_CELLS)
    text = Text("█" * filled, style="magenta")
    return text.append("░" * max(0, wanted - filled)).append(
        "·" * (BAR_CELLS - max(filled, wanted))
    )


def _shadow(rollout: Rollout) -> list[str]:
    copies, agreement = rollout.shadow
    if not copies:
        return []
    return [
        f"{copies:,} copies of requests, {agreement:.1%} answered like version {rollout.before}"
    ]


def _row(step: Step, summary: Summary, versions: tuple[str, str]) -> list[Text | str]:
    before, version = versions
    mark = Text("✓", style="green") if step.ended_s else Text("●", style="yellow")
    if step.began_s is None:
        mark = Text("○", style="dim")
    return [
        Text.assemble(mark, f" {step.number}"),
        f"{step.weight} %",
        Text.assemble(
            f"{_number(summary.share(version), '5.1f', ' %')} ".rjust(8),
            bar(summary.share(version), step.weight),
        ),
        f"{summary.requests:,}" if step.began_s else "-",
        Text(str(summary.failed), style="bold red" if summary.failed else ""),
        _number(summary.p50_ms, ".1f"),
        _number(summary.p99_ms, ".1f"),
        _number(100 * summary.accuracy(before), ".1f", "%"),
        _number(100 * summary.accuracy(version), ".1f", "%"),
    ]


def _number(value: float, form: str, unit: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}{unit}"
