"""The steps of a rollout as status tells them, and the requests that belong to each; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from demo.samples import Sample, Summary, summarize

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SETTLE_S: Final = 5.0
"""From a confirmed weight until it counts: Traefik gathers changes for two seconds, then applies them."""
MARGIN_S: Final = 0.5
"""Before a step's end: the end is seen a moment after it has happened."""


@dataclass
class Step:
    """One step, and when its weight was in force.

    Attributes:
        number: From 1.
        weight: Percent that the candidate is meant to get.
        began_s: When status first said that the weight is confirmed; None before.
        ended_s: When status said that the step is over; None before.
    """

    number: int
    weight: int
    began_s: float | None = None
    ended_s: float | None = None

    def counts(self, sample: Sample) -> bool:
        """Return whether a request was made while the step's weight was in force."""
        if self.began_s is None:
            return False
        end = math.inf if self.ended_s is None else self.ended_s - MARGIN_S
        return self.began_s + SETTLE_S <= sample.started_s < end


@dataclass
class Rollout:
    """Follows ``status`` through one rollout.

    Attributes:
        version: Version that the rollout leads to.
        before: Version that it starts from.
        steps: The plan, as status has written it down.
        state: State of the rollout machine.
        stable: Version that is stable now.
        rejection: Reason and grounds of a rollback; empty without one.
        rejected_s: When status told of it.
        shadow: Copies of requests that were compared, and the share of answers that agreed.
    """

    version: str
    before: str = "1"
    steps: list[Step] = field(default_factory=list)
    state: str = "Idle"
    stable: str = ""
    rejection: tuple[str, str] = ("", "")
    rejected_s: float = math.nan
    shadow: tuple[int, float] = (0, math.nan)
    _begun: bool = field(default=False, init=False)

    @property
    def done(self) -> bool:
        """Whether all requests go to one version again, the new one or the old."""
        return self.promoted or self.state == "RolledBack"

    @property
    def promoted(self) -> bool:
        """Whether the new version serves; the old one may stay warm for a while."""
        return self.state in {"Idle", "Probation"} and self.stable == self.version

    @property
    def detected_s(self) -> float:
        """Seconds from the first confirmed weight until the rollback; NaN without one."""
        began = [step.began_s for step in self.steps if step.began_s is not None]
        return self.rejected_s - min(began) if began else math.nan

    def feed(self, now_s: float, status: Mapping[str, Any]) -> None:
        """Note one status.

        Args:
            now_s: When it was seen, on the machine's monotonic clock.
            status: ``status`` of the ModelDeployment.
        """
        rollout: Mapping[str, Any] = status.get("rollout") or {}
        self.state = rollout.get("state", self.state)
        self.stable = (status.get("stable") or {}).get("version", self.stable)
        plan = rollout.get("plan") or ()
        # A finished rollout has no plan left; what it did stays on the screen.
        if plan and not self.steps:
            self.steps = [Step(n, planned["weight"]) for n, planned in enumerate(plan, 1)]
        self._begun |= (status.get("candidate") or {}).get("version") == self.version
        if self._begun:  # what is known of an earlier rollout stays in status for a while
            self._feed_findings(now_s, rollout)
        baking = rollout.get("step", 0) if self.state == "Analyzing" else 0
        for step in self.steps:
            if step.number == baking and (step.began_s is None or step.ended_s is not None):
                step.began_s, step.ended_s = now_s, None
            elif step.number != baking and step.began_s is not None and step.ended_s is None:
                step.ended_s = now_s

    def _feed_findings(self, now_s: float, rollout: Mapping[str, Any]) -> None:
        last, shadow = rollout.get("lastRollback"), rollout.get("shadow")
        if last and not self.rejection[0]:
            self.rejection, self.rejected_s = (last["reason"], last["message"]), now_s
        if shadow and "agreement" in shadow:
            self.shadow = (shadow["samples"], float(shadow["agreement"]))

    def summaries(self, samples: Iterable[Sample]) -> list[tuple[Step, Summary]]:
        """Return each step with the figures of its requests."""
        kept = list(samples)
        return [(step, summarize(filter(step.counts, kept))) for step in self.steps]
