"""Does stable keep the limits that it promises, outside rollouts too?"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from modelyard_operator.analysis.verdicts import Question, judge
from modelyard_operator.rollout.evidence import Evidence
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.spec import AnalysisSpec

CONDITION: Final = "ObjectivesMet"
"""Type of the condition that says so."""
LONGEST_WINDOW: Final = timedelta(hours=1)
"""Evidence of more than this is dropped; alpha is the probability of a false alarm in it."""
INTERVAL: Final = timedelta(seconds=30)
"""Between scrapes of a stable revision that has promised limits."""


def question_of(spec: AnalysisSpec) -> Question:
    """Return what is asked of stable at rest.

    Args:
        spec: ``spec.rollout.analysis``.
    """
    begun = round(LONGEST_WINDOW / INTERVAL)
    return Question(spec, compares=False, windows=begun, baked=True)


def judge_objective(
    question: Question, evidence: Evidence, before: Judgement | None
) -> tuple[Evidence, Judgement | None]:
    """Return the evidence with verdicts, and the limit that is broken.

    Args:
        question: Asked of stable alone.
        evidence: Seen since the last failure, at most for ``LONGEST_WINDOW``.
        before: What was broken until now; it is told in the words of the first time. It is mended
            when enough requests since then have kept every limit.
    """
    evidence, found = judge(question, evidence)
    if found.verdict is Verdict.FAIL:
        return evidence, before or found
    limited = {metric.name for metric in question.spec.metrics if metric.max is not None}
    seen = [one.candidate.n for one in evidence.metrics if one.metric in limited]
    enough = bool(seen) and min(seen) >= question.spec.min_samples
    return evidence, None if found.verdict is Verdict.PASS and enough else before


def go_on(evidence: Evidence, now: datetime) -> Evidence:
    """Return the evidence to add the next scrape to: none that has failed or is too old.

    Args:
        evidence: Seen so far, with verdicts.
        now: Current time, in UTC.
    """
    failed = any(one.verdict is Verdict.FAIL for one in evidence.metrics)
    since = evidence.window_start
    old = since is not None and now - since >= LONGEST_WINDOW
    return Evidence() if failed or old else evidence


def objective_of(conditions: Iterable[Mapping[str, Any]]) -> Judgement | None:
    """Return what status says is broken, for a process that has just started.

    Args:
        conditions: ``status.conditions``.
    """
    for condition in conditions:
        if condition["type"] == CONDITION and condition["status"] == "False":
            return Judgement(Verdict.FAIL, condition["reason"], condition["message"])
    return None
