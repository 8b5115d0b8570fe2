"""What clients see, request by request, and what it adds up to; pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OK: Final = 200


class Sample(NamedTuple):
    """One request as its client saw it."""

    started_s: float
    """On the machine's monotonic clock."""
    latency_ms: float
    status: int
    """HTTP status; 0 without an answer."""
    version: str
    """Model version that answered, from the response's header."""
    revision: str
    """Revision that answered, from the response's header."""
    correct: bool
    """Whether the digit was named correctly."""
    error: str = ""
    """What went wrong, in the words of the client or the server."""

    @property
    def failed(self) -> bool:
        """Whether the client did not get what it asked for, or cannot tell from whom."""
        return self.status != OK or not self.version or not self.revision


@dataclass(frozen=True)
class Summary:
    """Figures of many requests.

    Attributes:
        requests: How many.
        failed: How many of them failed.
        p50_ms: Half of the answers came within this time.
        p99_ms: 99 of 100 answers came within this time.
        answers: Answers of each version.
        correct: Answers of each version that were right.
        errors: The most frequent errors.
    """

    requests: int = 0
    failed: int = 0
    p50_ms: float = math.nan
    p99_ms: float = math.nan
    answers: Mapping[str, int] = field(default_factory=dict)
    correct: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()

    def share(self, version: str) -> float:
        """Return the percent of the answers that came from a version; NaN without answers."""
        total = sum(self.answers.values())
        return 100 * self.answers.get(version, 0) / total if total else math.nan

    def accuracy(self, version: str) -> float:
        """Return the share of a version's answers that are right; NaN without answers."""
        answers = self.answers.get(version, 0)
        return self.correct.get(version, 0) / answers if answers else math.nan


def summarize(samples: Iterable[Sample]) -> Summary:
    """Add samples up."""
    latencies: list[float] = []
    answers: Counter[str] = Counter()
    correct: defaultdict[str, int] = defaultdict(int)
    errors: Counter[str] = Counter()
    for sample in samples:
        if sample.failed:
            errors[f"{sample.status or 'no answer'}: {sample.error or 'not said by whom'}"] += 1
            continue
        latencies.append(sample.latency_ms)
        answers[sample.version] += 1
        correct[sample.version] += sample.correct
    latencies.sort()
    return Summary(
        requests=len(latencies) + errors.total(),
        failed=errors.total(),
        p50_ms=percentile(latencies, 50),
        p99_ms=percentile(latencies, 99),
        answers=dict(answers),
        correct=dict(correct),
        errors=tuple(f"{text} ({count} times)" for text, count in errors.most_common(3)),
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the nearest-rank percentile of sorted values; NaN without values."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
