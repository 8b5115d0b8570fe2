"""A revision that was taken back: why, what that means, and how it is tried again."""

from modelyard_cli.advice import ADVICE, LOOK_AT_PODS, Trouble
from modelyard_cli.advice.rejections import advise_rejection
from modelyard_cli.explanation import Explanation, NextStep, Seen
from modelyard_cli.sentences import stable_serves
from modelyard_cli.view import Failure, LastRollback
from modelyard_cli.words import ago


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
    meaning, fix, step = _advice(seen, last)
    text += "".join(
        f" {sentence}"
        for sentence in (
            meaning,
            stable_serves(view),
            f"The spec still asks for {gone}; it is not tried again unless you say so or edit it.",
            fix,
        )
        if sentence
    )
    steps = (
        *([step] if step else ()),
        seen.step("diff", "shows what it changed", f"{view.stable} {gone}".strip()),
        seen.step("retry", "tries the same revision again"),
        NextStep(seen.caller.kubectl(f"edit mdep/{view.name}"), "asks for another version"),
    )
    return Explanation(last.reason or "Rejected", text, steps)


def _advice(seen: Seen, last: LastRollback) -> tuple[str, str, NextStep | None]:
    """Return what a rejection means, what to do, and a command for it if there is one."""
    if told := advise_rejection(last.reason):
        return (*told, None)
    if (known := ADVICE.get(last.reason)) is None:
        return "", "", None
    if known.command in LOOK_AT_PODS:  # they went with the revision
        return known.meaning, known.fix, None
    failure = Failure(reason=last.reason, message=last.message, revision=last.revision)
    trouble = Trouble(seen.view, failure, seen.caller)
    return known.meaning, known.fix, NextStep(known.command(trouble), known.why)
