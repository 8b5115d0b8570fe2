"""Write the proxies' capabilities into the docs: what the operator claims, and what a run has seen.

`make routes` runs the tests behind every proxy, notes what they have shown, and then does this;
with ``--check`` it only compares.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from modelyard_operator.traffic.capabilities import CAPABILITIES

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "reference" / "routes.md"
RESULTS: Final = ROOT / "benchmarks" / "results" / "routes.json"
HEADER: Final = "| field |"
SEEN: Final = " ✓"

Results = Mapping[str, Mapping[str, str]]
"""Outcome by profile and feature."""


def render(results: Results) -> str:
    """Return the table: a row for each feature, a column for each profile."""
    lines = [_line(HEADER.strip("| "), *(f"`{profile}`" for profile in CAPABILITIES))]
    lines.append("|---" * (len(CAPABILITIES) + 1) + "|\n")
    for feature in next(iter(CAPABILITIES.values())):
        cells = [
            row[feature] + SEEN * (results.get(profile, {}).get(feature) == "passed")
            for profile, row in CAPABILITIES.items()
        ]
        lines.append(_line(f"`{feature}`", *cells))
    return "".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def place(page: str, table: str) -> str:
    """Return the page with the table where its own is.

    Raises:
        ValueError: The page has no such table.
    """
    begin = page.index(HEADER)
    return page[:begin] + table + page[page.index("\n\n", begin) + 1 :]


def main() -> None:
    """Write the page, or with ``--check`` exit 1 if it is another."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    page = PAGE.read_text(encoding="utf-8")
    wanted = place(page, render(results))
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8")
    elif page != wanted:
        sys.exit("run python tools/render_routes.py: the table of docs/reference/routes.md is old")


if __name__ == "__main__":
    main()
