"""What was learnt from the pods in one pass, as the machine and the conditions take it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modelyard_operator.analysis.comparison import Comparison
from modelyard_operator.rollout.evidence import Evidence
from modelyard_operator.rollout.judgement import Judgement
from modelyard_operator.rollout.state import Rollout, ShadowReport


@dataclass(frozen=True)
class Findings:
    """What the pods say of themselves.

    Attributes:
        analysis: Evidence of the window that runs, to be kept in status; None leaves what is there.
        judgement: What it says; None while nothing is analysed.
        shadow_report: What was compared, to be kept in status; None leaves what is there.
        shadow: What it says; None while nothing is compared.
        signature_change: How the candidate's inputs and outputs differ from stable's.
        signature_unknown: Both have ready pods, and one of them has not said yet what it takes.
        unverified: Ready pods that answer golden requests otherwise than recorded: what is wrong, by
            revision.
        objective: A limit that stable breaks outside rollouts; None while it keeps them.
        comparisons: How variants that get requests do beside stable, by revision.
        due: When there is something to be learnt again; None when only an event can bring it.
    """

    analysis: Evidence | None = None
    judgement: Judgement | None = None
    shadow_report: ShadowReport | None = None
    shadow: Judgement | None = None
    signature_change: str | None = None
    signature_unknown: bool = False
    unverified: Mapping[str, str] = field(default_factory=dict)
    objective: Judgement | None = None
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    due: datetime | None = None

    def added_to(self, rollout: Rollout) -> Rollout:
        """Return a rollout with the figures that were gathered, for a person to check a verdict."""
        found = {"analysis": self.analysis, "shadow": self.shadow_report}
        news = {name: value for name, value in found.items() if value is not None}
        return rollout.model_copy(update=news)
