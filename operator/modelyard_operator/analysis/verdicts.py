"""From evidence to a verdict, with the figures in words.

    Fail          an e-value has reached its bound
    Pass          the time is up, both arms answered enough, no limit is exceeded
    Inconclusive  the step's longest time is up without either
    Error         the figures could not be read, several times in a row
    Undecided     otherwise

No data is never a failure. Stable that is itself above a limit is no reason to blame the candidate.
"""

from dataclasses import dataclass
from typing import Final

from modelyard_operator.analysis.sequential import e_value
from modelyard_operator.rollout.evidence import Counts, Evidence, MetricEvidence
from modelyard_operator.rollout.judgement import MOST_ERRORS, NO_TRAFFIC, Judgement, Verdict
from modelyard_operator.rollout.status_part import format_time
from modelyard_operator.spec import AnalysisSpec, MetricSpec

MOST_BREACHES: Final = 3
"""Evaluations of a query in a row that are above its limit until that is a failure."""


@dataclass(frozen=True)
class Question:
    """What is asked of the evidence at one moment.

    Attributes:
        spec: ``spec.rollout.analysis``.
        compares: Both revisions get a share of the requests. Otherwise only limits can be judged.
        comparisons: Windows of this rollout in which they do, this one included.
        windows: All windows of this rollout, its probation included.
        baked: The step's time is up.
        overdue: So is its longest time.
    """

    spec: AnalysisSpec
    compares: bool = True
    comparisons: int = 1
    windows: int = 1
    baked: bool = False
    overdue: bool = False

    @property
    def comparison_bound(self) -> float:
        """E-value at which a comparison fails, so that alpha holds over metrics and windows."""
        return self.comparisons * self._tests / float(self.spec.alpha)

    @property
    def limit_bound(self) -> float:
        """The same for a limit."""
        return self.windows * self._tests / float(self.spec.alpha)

    @property
    def _tests(self) -> int:
        counted = [metric for metric in self.spec.metrics if metric.query is None]
        return len(counted) + sum(metric.max is not None for metric in counted)


def judge(question: Question, evidence: Evidence) -> tuple[Evidence, Judgement]:
    """Judge every metric and the window as a whole.

    Args:
        question: What is asked.
        evidence: What was seen.

    Returns:
        The evidence with each metric's verdict, and the verdict on the candidate.
    """
    known = {one.metric: one for one in evidence.metrics}
    metrics = [
        (metric, known.get(metric.name) or MetricEvidence(metric=metric.name))
        for metric in question.spec.metrics
    ]
    judged = [(one, _judge_metric(question, metric, one)) for metric, one in metrics]
    marked = tuple(one.model_copy(update={"verdict": said.verdict}) for one, said in judged)
    evidence = evidence.model_copy(update={"metrics": marked})
    said = _since(evidence, _weigh(question, evidence, [said for _, said in judged]))
    return evidence, said


def _weigh(question: Question, evidence: Evidence, judgements: list[Judgement]) -> Judgement:
    """Put the metrics' verdicts together; the worst comes first."""
    if evidence.errors:
        return _unreachable(evidence)
    first = {one.verdict: one for one in reversed(judgements)}
    if failed := first.get(Verdict.FAIL):
        return failed
    if not question.baked:
        return Judgement(Verdict.UNDECIDED, "Baking", "the step's time is not up")
    reasons = {one.reason for one in judgements}
    if question.compares and reasons == {"TooFewRequests"} and _unseen(evidence):
        promote = question.spec.on_no_traffic == "Promote"
        verdict = Verdict.PASS if promote else Verdict.INCONCLUSIVE
        return Judgement(verdict, NO_TRAFFIC, "neither revision got a request")
    for verdict in (Verdict.INCONCLUSIVE, Verdict.UNDECIDED):
        if found := first.get(verdict):
            return found
    return first.get(Verdict.PASS) or Judgement(Verdict.PASS, "NoMetrics", "nothing is analysed")


def _judge_metric(question: Question, metric: MetricSpec, seen: MetricEvidence) -> Judgement:
    if metric.query is not None:
        failed = _failed_query(metric, seen)
    else:
        failed = _failed_comparison(question, seen) or _failed_limit(question, metric, seen)
    if failed:
        return failed
    if missing := _missing(question, metric, seen):
        verdict = Verdict.INCONCLUSIVE if question.overdue else Verdict.UNDECIDED
        return Judgement(verdict, *missing)
    return Judgement(Verdict.PASS, "Passed", figures(seen, compares=question.compares))


def _failed_comparison(question: Question, seen: MetricEvidence) -> Judgement | None:
    value, bound = e_value(seen.log_e), question.comparison_bound
    if not question.compares or value < bound:
        return None
    text = f"{figures(seen)}; worse than stable: e-value {seen.e_value}, bound {bound:.3g}"
    return Judgement(Verdict.FAIL, f"{_camel(seen.metric)}Worse", text)


def _failed_limit(question: Question, metric: MetricSpec, seen: MetricEvidence) -> Judgement | None:
    value, bound = e_value(seen.limit_log_e), question.limit_bound
    if metric.max is None or value < bound or _above(metric, seen.stable):
        return None
    text = (
        f"{figures(seen, compares=question.compares)}; "
        f"above max {metric.max}: e-value {seen.limit_e_value}, bound {bound:.3g}"
    )
    return Judgement(Verdict.FAIL, f"{_camel(seen.metric)}AboveMax", text)


def _failed_query(metric: MetricSpec, seen: MetricEvidence) -> Judgement | None:
    if seen.breaches < MOST_BREACHES:
        return None
    text = (
        f"{metric.name} {seen.candidate_value}, above max {metric.max} "
        f"{seen.breaches} times in a row; stable {seen.stable_value}"
    )
    return Judgement(Verdict.FAIL, f"{_camel(seen.metric)}AboveMax", text)


def _missing(
    question: Question, metric: MetricSpec, seen: MetricEvidence
) -> tuple[str, str] | None:
    """Return what keeps a metric from passing, if anything does."""
    said = figures(seen, compares=question.compares)
    if metric.query is not None:
        if seen.candidate_value is None:
            return "NoValue", f"{metric.name}: the query gives no number for the candidate"
        if metric.max is not None and float(seen.candidate_value) > float(metric.max):
            return "AboveMax", f"{metric.name} {seen.candidate_value}, above max {metric.max}"
        return None
    least = question.spec.min_samples
    if question.compares and min(seen.stable.n, seen.candidate.n) < least:
        return "TooFewRequests", f"{said}; both need {least} requests"
    if _above(metric, seen.candidate):
        return "AboveMax", f"{said}; above max {metric.max}, which is not certain yet"
    return None


def _unreachable(evidence: Evidence) -> Judgement:
    text = f"the figures could not be read {evidence.errors} times in a row"
    verdict = Verdict.ERROR if evidence.errors >= MOST_ERRORS else Verdict.UNDECIDED
    return Judgement(verdict, "SourceUnreachable", text)


def _unseen(evidence: Evidence) -> bool:
    """Tell whether neither arm was asked for anything, as far as anybody counted."""
    return all(one.stable.n + one.candidate.n == 0 for one in evidence.metrics)


def _above(metric: MetricSpec, counts: Counts) -> bool:
    if metric.max is None or counts.n == 0:
        return False
    return counts.bad > float(metric.max) * counts.n


def figures(seen: MetricEvidence, *, compares: bool = True) -> str:
    """Say what was counted, without a verdict.

    Args:
        seen: One metric.
        compares: Both revisions were asked; otherwise the one that is judged alone.
    """
    ours = seen.candidate
    if not compares:
        return f"{seen.metric}: {ours.bad} of {ours.n}"
    theirs = seen.stable
    return f"{seen.metric}: candidate {ours.bad} of {ours.n}, stable {theirs.bad} of {theirs.n}"


def _since(evidence: Evidence, said: Judgement) -> Judgement:
    if evidence.window_start is None:
        return said
    text = f"{said.message} (since {format_time(evidence.window_start)})"
    return Judgement(said.verdict, said.reason, text)


def _camel(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in name.replace("_", "-").split("-"))
