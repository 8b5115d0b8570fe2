"""A revision that was taken back: why, what that means, and how it is tried again."""

from dataclasses import dataclass

from modelyard_cli.advice import ADVICE, LOOK_AT_PODS, Trouble
from modelyard_cli.advice.rejections import advise_rejection
from modelyard_cli.explanation import Explanation, NextStep, Seen
from modelyard_cli.sentences import stable_serves
from modelyard_cli.view import Failure, LastRollback
from modelyard_cli.words import ago


@dataclass(frozen=True)
class RollbackAdvice:
    """What a person is told about the cause of a rollback.

    Attributes:
        meaning: What it means; a sentence, empty where nothing is known.
        fix: What to do; a sentence, may be empty.
        steps: What to run for it.
    """

    meaning: str = ""
    fix: str = ""
    steps: tuple[NextStep, ...] = ()


def explain_rejection(seen: Seen) -> Explanation:
    """Say why the revision that the spec asks for was taken back, and how it is tried again.

    Args:
        seen: The ModelDeployment and the time.
    """
    view = seen.view
    last = view.rollout.last_rollback or LastRollback()
    names = (last.revision, *view.rollout.rejected[-1:], view.candidate)
    gone = next(filter(None, names), "the candidate")
    since = ago(last.time, seen.now)
    text = f"{gone} was taken back" + (f" {since} ago" if since else "")
    text += f" ({last.reason})" if last.reason else ""
    text += f": {last.message.rstrip('.')}." if last.message else "."
    advice = advise_rollback(seen, last)
    again = f"The spec still asks for {gone}; it is not tried again unless you say so or edit it."
    sentences = (advice.meaning, stable_serves(view), again, advice.fix)
    text += "".join(f" {sentence}" for sentence in sentences if sentence)
    steps = (
        *advice.steps,
        seen.step("diff", "shows what it changed", f"{view.stable} {gone}".strip()),
        seen.step("retry", "tries the same revision again"),
        NextStep(seen.caller.kubectl(f"edit mdep/{view.name}"), "asks for another version"),
    )
    return Explanation(last.reason or "Rejected", text, steps)


def advise_rollback(seen: Seen, last: LastRollback) -> RollbackAdvice:
    """Return what a rollback means and what to do about its cause.

    Args:
        seen: The ModelDeployment and the time.
        last: The rollback.
    """
    if told := advise_rejection(last.reason):
        return RollbackAdvice(*told)
    if (known := ADVICE.get(last.reason)) is None:
        return RollbackAdvice()
    if known.command in LOOK_AT_PODS:  # they went with the revision
        return RollbackAdvice(known.meaning, known.fix)
    failure = Failure(reason=last.reason, message=last.message, revision=last.revision)
    trouble = Trouble(seen.view, failure, seen.caller)
    return RollbackAdvice(known.meaning, known.fix, (NextStep(known.command(trouble), known.why),))
