"""When is a canary rolled back? The operator's own code, beside two rules of others.

The other two look at one number a minute, as their users' documents show them to:

- like Flagger: a check fails where less than 99 % of the candidate's answers of that minute succeeded, or
  where there were none; five failed checks in a rollout roll it back.
- like Argo Rollouts: the same check, without one where there are no answers; a fourth failure in a step
  rolls back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from modelyard_operator.analysis.accumulate import accumulate
from modelyard_operator.analysis.counters import Tally
from modelyard_operator.analysis.verdicts import Question, judge
from modelyard_operator.analysis.windows import Window, open_window
from modelyard_operator.rollout.judgement import Verdict
from modelyard_operator.rollout.state import Rollout
from modelyard_operator.spec import AnalysisSpec

if TYPE_CHECKING:
    from traffic import Interval

    from modelyard_operator.rollout.evidence import Evidence

MINUTE_S: Final = 60
SUCCESS: Final = 0.99
FLAGGER_FAILURES: Final = 5
ARGO_FAILURES: Final = 3
BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Rule(Protocol):
    """Looks at a rollout, and may end it."""

    def begin_step(self, at_s: float) -> None:
        """Note that the next weight is confirmed."""

    def see(self, interval: Interval, at_s: float) -> bool:
        """Take in an interval that has just ended.

        Returns:
            Whether the canary is rolled back.
        """


@dataclass
class Shipped:
    """What the operator does: its own functions, with the defaults of ``spec.rollout.analysis``.

    Errors are simulated; the default's other metrics see the same requests and no bad ones, and take
    their part of alpha.

    Attributes:
        windows: Steps in which the arms are compared.
        spec: What is analysed.
    """

    windows: int = 3
    spec: AnalysisSpec = field(default_factory=AnalysisSpec)
    verdict: Verdict = Verdict.UNDECIDED
    _evidence: Evidence | None = None
    _window: Window | None = None
    _rollout: Rollout = field(default_factory=lambda: Rollout(started_at=BEGINNING))

    def begin_step(self, at_s: float) -> None:
        """See ``Rule``."""
        now = BEGINNING + timedelta(seconds=at_s)
        question = Question(self.spec, comparisons=self.windows, windows=self.windows + 2)
        step = self._window.step + 1 if self._window else 1
        self._window = Window("candidate", step, "stable", question, opens=now)
        self._evidence = open_window(self._evidence, self._window, self._rollout, now)

    def see(self, interval: Interval, at_s: float) -> bool:
        """See ``Rule``."""
        del at_s
        return self.judge(interval, baked=False, overdue=False) is Verdict.FAIL

    def judge(self, interval: Interval, *, baked: bool, overdue: bool) -> Verdict:
        """Take in an interval, and say what all of them amount to.

        Args:
            interval: What happened.
            baked: The step's time is up.
            overdue: Its longest time is up.
        """
        if self._window is None or self._evidence is None:
            raise RuntimeError("an interval before the first step")
        known = {one.metric: one for one in self._evidence.metrics}
        metrics = tuple(
            accumulate(
                known.get(metric.name),
                metric,
                stable=[_of(metric.builtin, pod) for pod in interval.stable],
                candidate=[_of(metric.builtin, pod) for pod in interval.candidate],
            )
            for metric in self.spec.metrics
        )
        question = replace(self._window.question, baked=baked, overdue=overdue)
        evidence = self._evidence.model_copy(update={"metrics": metrics})
        self._evidence, judgement = judge(question, evidence)
        return judgement.verdict


@dataclass
class _OneNumberAMinute:
    """Counts failed checks of the candidate's success rate."""

    failures: int = 0
    _asked: float = 0
    _failed: float = 0
    _next_s: float = MINUTE_S

    def begin_step(self, at_s: float) -> None:
        """See ``Rule``."""
        self._asked = self._failed = 0
        self._next_s = at_s + MINUTE_S

    def see(self, interval: Interval, at_s: float) -> bool:
        """See ``Rule``."""
        self._asked += sum(pod.n for pod in interval.candidate)
        self._failed += sum(pod.bad for pod in interval.candidate)
        if at_s < self._next_s:
            return False
        rate = 1 - self._failed / self._asked if self._asked else None
        self._asked = self._failed = 0
        self._next_s += MINUTE_S
        return self.check(rate)

    def check(self, rate: float | None) -> bool:
        """Look at a minute's rate of success; None without an answer."""
        raise NotImplementedError


class FlaggerLike(_OneNumberAMinute):
    """Five failed checks in a rollout; no data is a failed check."""

    def check(self, rate: float | None) -> bool:
        """See above."""
        self.failures += rate is None or rate < SUCCESS
        return self.failures >= FLAGGER_FAILURES


class ArgoLike(_OneNumberAMinute):
    """More than three failed checks in a step."""

    def begin_step(self, at_s: float) -> None:
        """See ``Rule``."""
        super().begin_step(at_s)
        self.failures = 0

    def check(self, rate: float | None) -> bool:
        """See above."""
        self.failures += rate is not None and rate < SUCCESS
        return self.failures > ARGO_FAILURES


def _of(builtin: str | None, pod: Tally) -> Tally:
    return pod if builtin == "Errors" else Tally(pod.n, 0)
