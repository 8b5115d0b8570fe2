"""How often is a healthy canary rolled back, and how soon a bad one? 1,000 simulated rollouts a cell.

    python benchmarks/analysis/bench.py              writes benchmarks/results/analysis.md, half an hour
    python benchmarks/analysis/bench.py --runs 50    a look

Two questions: the operator's own code beside two rules of others, over the same requests in steps of
the same length; and what comes of a rollout with the operator's defaults. Ends with 1 when more than
1 % of the healthy canaries of a cell are rolled back.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from rules import ArgoLike, FlaggerLike, Rule, Shipped
from traffic import INTERVAL_S, Cell, Traffic

from modelyard_operator.rollout.judgement import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RESULTS: Final = Path(__file__).parent.parent / "results" / "analysis.md"
RUNS: Final = 1_000
SEED: Final = 20260101
WEIGHTS: Final = (5, 25, 50)
STEP_S: Final = 600
BAKE_S: Final = 120
LONGEST_STEP_S: Final = 1800
ALLOWED: Final = 0.01
CELLS: Final = (
    Cell(1, 0.005, 0.005),
    Cell(5, 0.005, 0.005),
    Cell(50, 0.005, 0.005),
    Cell(5, 0.01, 0.01),
    Cell(50, 0.01, 0.01),
    Cell(5, 0.002, 0.002, outage=True),
    Cell(50, 0.002, 0.002, outage=True),
    Cell(50, 0.005, 0.005, hiccups=True),
    Cell(1, 0.01, 0.03),
    Cell(5, 0.01, 0.03),
    Cell(50, 0.01, 0.03),
    Cell(1, 0.01, 0.2),
    Cell(5, 0.01, 0.2),
    Cell(50, 0.01, 0.2),
)
RULES: Final[tuple[tuple[str, Callable[[], Rule]], ...]] = (
    ("Flagger-like", FlaggerLike),
    ("Argo-like", ArgoLike),
    ("Modelyard", Shipped),
)


@dataclass(frozen=True)
class Found:
    """What became of many rollouts.

    Attributes:
        rolled_back: Share of them.
        minute: Median time of a rollback, in minutes; None without one.
    """

    rolled_back: float
    minute: float | None

    def __str__(self) -> str:
        share = f"{self.rolled_back:.1%}".replace("%", " %")
        return share if self.minute is None else f"{share}, {self.minute:.1f} min"


def rollback_s(cell: Cell, rule: Rule, rng: np.random.Generator) -> float | None:
    """Run one rollout of three steps of ten minutes.

    Returns:
        When it was rolled back, in seconds since the first weight was confirmed; None if it was not.
    """
    traffic = Traffic(cell, rng, STEP_S * len(WEIGHTS))
    for step, weight in enumerate(WEIGHTS):
        begin_s = step * STEP_S
        rule.begin_step(begin_s)
        for at_s in range(begin_s, begin_s + STEP_S, INTERVAL_S):
            if rule.see(traffic.interval(at_s, weight), at_s + INTERVAL_S):
                return at_s + INTERVAL_S
    return None


def outcome(cell: Cell, rng: np.random.Generator) -> tuple[Verdict, float]:
    """Run one rollout with the operator's defaults, each step until it is judged.

    Returns:
        Pass, Fail, or Inconclusive for a rollout that waits for a person; and when, in seconds.
    """
    rule, traffic, at_s = Shipped(), Traffic(cell, rng, BAKE_S * len(WEIGHTS) * 3), 0
    for weight in WEIGHTS:
        begin_s, verdict = at_s, Verdict.UNDECIDED
        rule.begin_step(begin_s)
        while verdict is Verdict.UNDECIDED:
            interval = traffic.interval(at_s, weight)
            at_s += INTERVAL_S
            verdict = rule.judge(
                interval,
                baked=at_s - begin_s >= BAKE_S,
                overdue=at_s - begin_s >= LONGEST_STEP_S,
            )
        if verdict is not Verdict.PASS:
            return verdict, at_s
    return Verdict.PASS, at_s


def measure(cell: Cell, make: Callable[[], Rule], runs: int) -> Found:
    """Run one rule over one cell; every rule sees the same requests."""
    times = [rollback_s(cell, make(), np.random.default_rng((SEED, run))) for run in range(runs)]
    found = [time for time in times if time is not None]
    minute = statistics.median(found) / 60 if found else None
    return Found(len(found) / runs, minute)


def describe(cell: Cell) -> str:
    """Name a cell as the table does."""
    extra = (", outage" if cell.outage else "") + (", hiccups" if cell.hiccups else "")
    return f"| {cell.rps:g} | {cell.stable:.1%} → {cell.candidate:.1%}{extra} |".replace("%", " %")


def comparison(runs: int) -> tuple[list[str], bool]:
    """Return the first table, and whether the shipped code keeps what it promises."""
    names = " | ".join(name for name, _ in RULES)
    lines = [f"| req/s | errors, stable → canary | {names} |", "|---|---|" + "---|" * len(RULES)]
    kept = True
    for cell in CELLS:
        found = [measure(cell, make, runs) for _, make in RULES]
        kept &= not cell.healthy or found[-1].rolled_back <= ALLOWED
        lines.append(f"{describe(cell)} {' | '.join(map(str, found))} |")
        print(lines[-1], flush=True)
    return lines, kept


def defaults(runs: int) -> list[str]:
    """Return the second table."""
    lines = [
        "| req/s | errors, stable → canary | promoted | rolled back | waits for a person |",
        "|---|---|---|---|---|",
    ]
    for cell in CELLS:
        ended = [outcome(cell, np.random.default_rng((SEED, run))) for run in range(runs)]
        columns = [
            _share(ended, verdict) for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
        ]
        lines.append(f"{describe(cell)} {' | '.join(columns)} |")
        print(lines[-1], flush=True)
    return lines


def _share(ended: Iterable[tuple[Verdict, float]], verdict: Verdict) -> str:
    ended = list(ended)
    times = [time for one, time in ended if one is verdict]
    minute = statistics.median(times) / 60 if times else None
    return str(Found(len(times) / len(ended), minute))


def report(runs: int, rules: list[str], ends: list[str]) -> str:
    """Put the page together."""
    return "\n".join(
        [
            "# When a canary is rolled back",
            "",
            f"`make bench-analysis`: {runs:,} simulated rollouts in each cell, scraped every five seconds.",
            "Stable has four pods. An *outage* makes both arms fail 30 % for five minutes; with *hiccups*",
            "one pod of either arm in eighty minutes fails half of its requests for one interval.",
            "",
            "## Beside the rules of others",
            "",
            "5, 25 and 50 % for ten minutes each, whatever is found, over the same requests: share of the",
            "rollouts that are rolled back, and the median minute of it. Flagger-like is a success of 99 %",
            "in every minute, no data being a failure, with five failures in a rollout; Argo-like the same",
            "check with at most three failures in a step. Modelyard is the operator's own code with the",
            "defaults: alpha 0.01 over three metrics and three steps.",
            "",
            *rules,
            "",
            "Where both rates are equal a rollback is a mistake: at most 1 % are allowed.",
            "",
            "## With the defaults",
            "",
            "A step ends as soon as it passes: after two minutes and 100 requests to both arms, at most half",
            "an hour. Share of the rollouts, and median minutes until then, without the time for pods. An",
            "outage begins within eighteen minutes, so that some of the rollouts end before it.",
            "",
            *ends,
            "",
            "A hundred requests do not tell 1 % from 3 %: at few requests a second such a version passes its",
            "steps, unless `minSamples` is raised or a `max` of 1 % holds it. At one request a second 5 % are too",
            "few for a hundred requests in half an hour: a larger first weight, or a person, decides.",
            "",
        ]
    )


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    rules, kept = comparison(runs)
    text = report(runs, rules, defaults(runs))
    if runs == RUNS:
        RESULTS.write_text(text, encoding="utf-8")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
