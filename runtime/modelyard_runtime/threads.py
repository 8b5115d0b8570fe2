"""Work that may hang: in a daemon thread, which never keeps the process alive."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


async def in_daemon_thread(work: Callable[[], Result], *, name: str) -> Result:
    """Run ``work`` in a daemon thread of its own and wait for it.

    An executor's threads are joined when the interpreter ends; a loader that hangs in native code
    would then keep the process from leaving.

    Args:
        work: What to run.
        name: Of the thread.

    Returns:
        What ``work`` returned.

    Raises:
        BaseException: What ``work`` raised.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def tell(set_outcome: Callable[[Any], None], outcome: object) -> None:
        def settle() -> None:
            if not done.done():
                set_outcome(outcome)

        if not loop.is_closed():  # else nobody waits any more
            loop.call_soon_threadsafe(settle)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - the thread's root; told to the waiter
            tell(done.set_exception, error)
        else:
            tell(done.set_result, result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
