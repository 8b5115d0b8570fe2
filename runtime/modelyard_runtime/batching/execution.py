"""One batch on its way through the model, halved where it fails."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic

from modelyard_runtime.batching.calls import In, Out
from modelyard_runtime.errors import InferenceError, NotReadyError, OutOfMemoryError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.batching.backlog import Batch
    from modelyard_runtime.batching.calls import BatchCalls


@dataclass(slots=True)
class Outcome(Generic[In, Out]):
    """What became of a batch.

    Attributes:
        batch: The batch.
        answers: One per item, in order; an error where there is none.
        began: When it went into the model.
        run_s: Time in the model, in seconds, all re-runs included.
        bisections: How often it was halved to find who fails.
        failed: Items that failed alone.
        out_of_memory: Whether it, or a part of it, did not fit into memory.
        whole: Whether it ran once, as it was; only then its time says anything.
    """

    batch: Batch[In, Out]
    answers: list[Out | BaseException] = field(default_factory=list)
    began: float = 0.0
    run_s: float = 0.0
    bisections: int = 0
    failed: int = 0
    out_of_memory: bool = False
    whole: bool = True

    @property
    def poisoned(self) -> int:
        """Items that failed while others of their batch did not."""
        return self.failed if self.failed < len(self.answers) else 0


def execute(
    calls: BatchCalls[In, Out],
    batch: Batch[In, Out],
    clock: Callable[[], float] = time.monotonic,
) -> Outcome[In, Out]:
    """Run a batch; whatever the model raises is settled per item.

    One poisonous item among n costs at most 2·log₂(n) further runs. Too little memory costs about one
    further run for each halving that is needed, down to single rows.

    Args:
        calls: How items are run, cut and joined.
        batch: At least one item.
        clock: Gives seconds.

    Returns:
        An answer, or an error, for each item.
    """
    outcome: Outcome[In, Out] = Outcome(batch)
    outcome.began = started = clock()
    try:
        outcome.answers = _answers(calls, [entry.item for entry in batch.entries])
    except Exception as error:  # noqa: BLE001 - the root of all model code; settled per caller
        items = [(entry.item, entry.rows) for entry in batch.entries]
        outcome.whole = False
        outcome.answers = _after(error, calls, items, outcome)
    outcome.run_s = clock() - started
    return outcome


def _answers(calls: BatchCalls[In, Out], items: list[In]) -> list[Out | BaseException]:
    answers: list[Out | BaseException] = list(calls.run(items))
    if len(answers) == len(items):
        return answers
    problem = f"the model gave {len(answers)} answers to {len(items)} items"
    return [InferenceError(problem) for _ in items]


def _run(
    calls: BatchCalls[In, Out], items: list[tuple[In, int]], outcome: Outcome[In, Out]
) -> list[Out | BaseException]:
    try:
        return _answers(calls, [item for item, _ in items])
    except Exception as error:  # noqa: BLE001 - as above
        return _after(error, calls, items, outcome)


def _after(
    error: Exception,
    calls: BatchCalls[In, Out],
    items: list[tuple[In, int]],
    outcome: Outcome[In, Out],
) -> list[Out | BaseException]:
    """Settle items whose run has failed: all of them, the only one, or each half by itself."""
    if isinstance(error, NotReadyError):  # nobody's fault: running them again would not help
        return [NotReadyError(*error.args) for _ in items]
    if isinstance(error, OutOfMemoryError):
        outcome.out_of_memory = True
        if len(items) == 1:
            return [_by_rows(calls, *items[0], error, outcome)]
    elif len(items) == 1:
        outcome.failed += 1
        return [_as_request_error(error)]
    else:
        outcome.bisections += 1
    middle = len(items) // 2
    return _run(calls, items[:middle], outcome) + _run(calls, items[middle:], outcome)


def _by_rows(
    calls: BatchCalls[In, Out],
    item: In,
    rows: int,
    error: OutOfMemoryError,
    outcome: Outcome[In, Out],
) -> Out | BaseException:
    """Run the halves of an item that does not fit into memory; a single row cannot be halved."""
    if rows == 1:
        outcome.failed += 1
        return error
    answers: list[Out] = []
    try:
        for start, stop in ((0, rows // 2), (rows // 2, rows)):
            half = calls.cut(item, start, stop)
            (answer,) = _run(calls, [(half, stop - start)], outcome)
            if isinstance(answer, BaseException):
                return answer
            answers.append(answer)
        return calls.join(answers)
    except Exception as problem:  # noqa: BLE001 - as above: answers that cannot be joined, say
        return _as_request_error(problem)


def _as_request_error(error: Exception) -> RequestError:
    """Keep what is meant for the caller; wrap everything else."""
    if isinstance(error, RequestError):
        return error
    wrapped = InferenceError("the model failed on this request")
    wrapped.__cause__ = error
    return wrapped
