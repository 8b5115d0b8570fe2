"""What a verdict means for a step whose least time is over."""

from datetime import datetime
from enum import StrEnum

from modelyard_operator.rollout.judgement import MOST_ERRORS, NO_TRAFFIC, Judgement, Verdict
from modelyard_operator.rollout.state import Ask, Rollout, RolloutState
from modelyard_operator.rollout.transitions import moved, rolled_back


class Ruling(StrEnum):
    """What becomes of the step."""

    GO_ON = "GoOn"
    WAIT = "Wait"
    REJECT = "Reject"
    INCONCLUSIVE = "Inconclusive"
    """A person decides: too little was seen."""
    NO_TRAFFIC = "NoTraffic"
    """A person decides: nothing was asked."""


def rule(ask: Ask, seen: Judgement | None, *, late: bool) -> Ruling:
    """Return what to do about a step.

    No data is never a failure; it is a pass only where the user says so.

    Args:
        ask: What the user wants.
        seen: What the evidence says; None while nothing is judged.
        late: The longest time for gathering evidence is over, too.
    """
    if seen is None or seen.verdict is Verdict.PASS:
        return Ruling.GO_ON
    if seen.verdict is Verdict.FAIL:
        return Ruling.REJECT
    if seen.verdict is Verdict.ERROR:
        return Ruling.WAIT
    analysis = ask.spec.analysis
    if seen.reason == NO_TRAFFIC:
        return Ruling.GO_ON if analysis.on_no_traffic == "Promote" else Ruling.NO_TRAFFIC
    if not late:
        return Ruling.WAIT
    return {
        "Promote": Ruling.GO_ON,
        "Pause": Ruling.INCONCLUSIVE,
        "Rollback": Ruling.REJECT,
    }[analysis.on_inconclusive]


def held_up(
    rollout: Rollout, ruling: Ruling, grounds: tuple[str, str], now: datetime
) -> Rollout | None:
    """Carry out a ruling other than to go on; None where the step is over.

    Args:
        rollout: The rollout as it stands.
        ruling: What became of the step.
        grounds: Reason and message of a rejection.
        now: Current time, in UTC.
    """
    match ruling:
        case Ruling.GO_ON:
            return None
        case Ruling.REJECT:
            return rolled_back(rollout, *grounds, now)
        case Ruling.INCONCLUSIVE | Ruling.NO_TRAFFIC:
            return moved(rollout, RolloutState.PAUSED, now, paused_reason=ruling.value)
    return rollout


def unreadable(rollout: Rollout, seen: Judgement | None) -> bool:
    """Tell whether the source of the figures has been silent for long enough to ask a person."""
    silent = rollout.analysis is not None and rollout.analysis.errors >= MOST_ERRORS
    return silent and seen is not None and seen.verdict is Verdict.ERROR
