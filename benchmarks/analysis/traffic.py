"""Requests to both arms of a simulated rollout, interval by interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from modelyard_operator.analysis.counters import Tally

if TYPE_CHECKING:
    import numpy as np

INTERVAL_S: Final = 5
"""Between two scrapes."""
STABLE_PODS: Final = 4
OUTAGE_S: Final = 300
OUTAGE_RATE: Final = 0.3
HICCUP_RATE: Final = 0.5
HICCUPS: Final = 0.001
"""Of a pod's intervals: one in eighty minutes, as when a node is short of memory."""


@dataclass(frozen=True)
class Cell:
    """What is asked of a rule.

    Attributes:
        rps: Requests a second, to both arms together.
        stable: Share of stable's answers that are errors.
        candidate: The same of the candidate.
        outage: For five minutes both arms fail 30 % of what they are asked.
        hiccups: Now and then one pod, of either arm, fails half of what it is asked for one interval.
    """

    rps: float
    stable: float
    candidate: float
    outage: bool = False
    hiccups: bool = False

    @property
    def healthy(self) -> bool:
        """Whether a rollback would be a mistake."""
        return self.candidate <= self.stable


@dataclass(frozen=True)
class Interval:
    """What each pod was asked, and how much of it failed."""

    stable: tuple[Tally, ...]
    candidate: tuple[Tally, ...]


class Traffic:
    """The requests of one rollout.

    Args:
        cell: Rates.
        rng: Where chance comes from.
        horizon_s: In which time an outage may begin, in seconds.
    """

    def __init__(self, cell: Cell, rng: np.random.Generator, horizon_s: float) -> None:
        self._cell = cell
        self._rng = rng
        self._outage_at = rng.uniform(0, horizon_s - OUTAGE_S) if cell.outage else math.inf

    def interval(self, at_s: float, weight: int) -> Interval:
        """Draw one interval.

        Args:
            at_s: Its beginning, since the rollout's, in seconds.
            weight: Percent of the requests that the candidate gets.
        """
        cell, share = self._cell, weight / 100
        down = OUTAGE_RATE if self._outage_at <= at_s < self._outage_at + OUTAGE_S else 0.0
        pods = max(1, math.ceil(STABLE_PODS * share))
        return Interval(
            stable=self._arm(STABLE_PODS, cell.rps * (1 - share), max(cell.stable, down)),
            candidate=self._arm(pods, cell.rps * share, max(cell.candidate, down)),
        )

    def _arm(self, pods: int, rps: float, rate: float) -> tuple[Tally, ...]:
        asked = self._rng.poisson(rps * INTERVAL_S / pods, pods)
        rates = [rate] * pods
        if self._cell.hiccups:
            ill = self._rng.random(pods) < HICCUPS
            rates = [max(rate, HICCUP_RATE) if one else rate for one in ill]
        failed = self._rng.binomial(asked, rates)
        return tuple(Tally(int(n), int(bad)) for n, bad in zip(asked, failed, strict=True))
