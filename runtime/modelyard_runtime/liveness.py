"""Whether the process still does what it is for: engines that answer, a loop that turns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modelyard_runtime.inference import ServedModel

_LEAST_S: Final = 10.0
_FACTOR: Final = 10.0
_LAG_EVERY_S: Final = 0.5


def stalled(models: Iterable[ServedModel]) -> str | None:
    """Find an engine that has work and no longer does it.

    A queue that is merely long is no such thing: each batch that begins or ends is a sign of life. An
    engine with a process of its own is started again when it hangs or ends; only when that has failed
    for good, and nothing else serves, does the whole container have to start again.

    Args:
        models: Those that serve.

    Returns:
        A sentence that names it; None while all is well.
    """
    serving = list(models)
    outages = [served.model.outage for served in serving]
    if outages and all(outage is not None and outage.final for outage in outages):
        return "no engine is left"
    for served in serving:
        if served.model.restarts:
            continue
        silent_s = served.batcher.silent_s
        if silent_s > _LEAST_S and silent_s > patience_s(served):
            return (
                f"the engine of model {served.name!r} has shown no sign of life for "
                f"{silent_s:.0f} s"
            )
    return None


def patience_s(served: ServedModel) -> float:
    """Say how long a model's engine may take for a batch before it is taken to be stuck.

    Args:
        served: The model.

    Returns:
        Ten times what its slow batches take, at least 10 s; before it has run one, the time-out of
        its requests as well. In seconds.
    """
    slow_s = served.statistics.slow_batch_s
    return max(_LEAST_S, served.timeout_s if slow_s is None else _FACTOR * slow_s)


async def watch_lag(note: Callable[[float], None]) -> None:
    """Measure for ever how late the event loop is for its timers.

    Args:
        note: Told every half second, in seconds.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_EVERY_S
        await asyncio.sleep(_LAG_EVERY_S)
        note(max(0.0, loop.time() - due))
