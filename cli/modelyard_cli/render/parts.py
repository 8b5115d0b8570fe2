"""Signs, colours and bars that several renderings share."""

from typing import Final

from rich.table import Table
from rich.text import Text

BAR_CELLS: Final = 20
DONE: Final = ("✔", "green")
CURRENT: Final = ("●", "yellow")
AHEAD: Final = ("○", "dim")
FAILED: Final = ("✖", "red")
UNKNOWN: Final = ("?", "dim")
VERDICT_STYLES: Final = {
    "Pass": "green",
    "Fail": "bold red",
    "Inconclusive": "yellow",
    "Error": "magenta",
    "Undecided": "dim",
}


def sign(kind: tuple[str, str]) -> Text:
    """Return one of the signs above in its colour."""
    return Text(kind[0], style=kind[1])


def bar(weight: int, style: str) -> Text:
    """Return a share of the traffic as a bar."""
    filled = round(weight / 100 * BAR_CELLS)
    if weight and not filled:
        filled = 1  # a share that exists is seen
    return Text("█" * filled, style=style).append("░" * (BAR_CELLS - filled), style="dim")


def verdict(word: str) -> Text:
    """Return a verdict in its colour."""
    return Text(word or "Undecided", style=VERDICT_STYLES.get(word or "Undecided", ""))


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table without lines.

    Args:
        columns: Headings.
        right: Those of them whose cells are figures.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in columns:
        made.add_column(heading, justify="right" if heading in right else "left")
    return made


def section(title: str) -> Text:
    """Return a heading."""
    return Text(title, style="bold")
