"""Several ModelDeployments or revisions, one a line, and an explanation."""

import textwrap
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from modelyard_cli.explanation import Explanation
from modelyard_cli.history import Record, fate
from modelyard_cli.render import parts
from modelyard_cli.view import View
from modelyard_cli.words import ago

PARAGRAPH_WIDTH: Final = 100
"""Longer lines are hard to read."""


def render_list(views: Iterable[View], now: datetime) -> RenderableType:
    """Return one line for each ModelDeployment.

    Args:
        views: Which.
        now: Current time, in UTC.
    """
    table = parts.table(
        "name", "", "reason", "rollout", "stable", "candidate", "share", right=("share",)
    )
    for view in views:
        candidate, rollout = view.status.candidate, view.rollout
        step = f" {rollout.step}/{len(rollout.plan)}" if rollout.step and rollout.plan else ""
        since = ago(rollout.state_since, now)
        table.add_row(
            Text(view.name, style="bold"),
            parts.sign(parts.DONE if view.ready else parts.CURRENT),
            view.condition("Ready").reason or "NotObserved",
            f"{rollout.state}{step}" + (f" ({since})" if since else ""),
            view.stable or "-",
            view.candidate or "-",
            f"{candidate.weight} %" if candidate else "-",
        )
    return table


def render_history(records: Iterable[Record], view: View, now: datetime) -> RenderableType:
    """Return one line for each revision, newest first.

    Args:
        records: Which.
        view: Whose.
        now: Current time, in UTC.
    """
    table = parts.table("#", "revision", "version", "age", "model", "", right=("#", "age"))
    for record in records:
        word = fate(record, view)
        style = (
            "green" if word.startswith("stable") else "red" if word.startswith("rejected") else ""
        )
        table.add_row(
            str(record.number),
            record.name,
            record.version,
            ago(record.created, now),
            record.uri,
            Text(word, style=style or ("magenta" if word.startswith("candidate") else "dim")),
        )
    return table


def render_diff(lines: Iterable[str]) -> RenderableType:
    """Return a unified diff in colours."""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    return Group(
        *(
            Text(line, style="bold" if line[:3] in {"+++", "---"} else styles.get(line[:1], ""))
            for line in lines
        )
    )


def render_explanation(explanation: Explanation, width: int) -> RenderableType:
    """Return the paragraph, and the commands below it, for printing without wrapping.

    Args:
        explanation: What is told.
        width: Of the terminal; the paragraph is filled to it, commands stay whole to be copied.
    """
    filled = textwrap.fill(
        explanation.text,
        min(width, PARAGRAPH_WIDTH),
        break_long_words=False,  # names and addresses can be copied
        break_on_hyphens=False,
    )
    rows: list[RenderableType] = [Text(filled)]
    if explanation.steps:
        rows += [Text(""), parts.section("Next")]
    for step in explanation.steps:
        rows += [Text(f"  {step.command}", style="cyan"), Text(f"      {step.why}", style="dim")]
    return Group(*rows)
