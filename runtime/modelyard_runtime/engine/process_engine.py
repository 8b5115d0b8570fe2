"""A model in a process of its own: whatever it does, the server stays up.

A crash, a ``kill -9``, a broken CUDA context or a hang end the engine's process, never the server's.
The batch that was in it is answered 503, and the engine comes back by itself.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from modelyard_runtime.engine.child_process import EngineProcess
from modelyard_runtime.engine.process_protocol import Failure, Warm
from modelyard_runtime.engine.protocol import Model, Outage
from modelyard_runtime.errors import NotReadyError, Reason, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.engine.process_protocol import Answer, Described, Start
    from modelyard_runtime.engine.protocol import Arrays, TensorSpec
    from modelyard_runtime.warming import Warmth

_log = structlog.stdlib.get_logger(__name__)

_MOST_RESTARTS: Final = 5
"""Restarts in a row that may fail to load; the model is then given up."""
_FIRST_DELAY_S: Final = 0.25
_LONGEST_DELAY_S: Final = 30.0
_STABLE_S: Final = 60.0
"""An engine that lived this long begins to count its crashes anew."""
_CRASHES_IN_A_ROW: Final = 3
"""More of them, and the model counts as unavailable until it is back."""


class ProcessModel(Model):
    """A model behind a process of its own, which is started again whenever it ends.

    Args:
        start: What the process loads.
        hang_s: A batch that takes longer hangs, in seconds.
        count: Adds to a counter of the model's handler.

    Raises:
        StartupError: The model cannot be loaded.
    """

    format: str
    platform: str
    device: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    max_rows: int | None

    def __init__(self, start: Start, *, hang_s: float, count: Callable[[str, float], None]) -> None:
        self._start = start
        self._warm = Warm({})
        self._hang_s = hang_s
        self._count = count
        self._calling = threading.Lock()
        self._closing = threading.Event()
        self._supervised = False
        self._outage: Outage | None = None
        self._engine = EngineProcess()
        try:
            self._take_over(self._engine.ask(start))
        except BaseException:
            self._engine.end()
            raise

    def warm(self, **how: Any) -> Warmth:
        """Have the process warm the model; from now on it is started again when it ends.

        Args:
            how: Keyword arguments of ``warming.warm``.

        Returns:
            What warming found out.

        Raises:
            StartupError: ``WarmupFailed``, or ``OutOfMemory``.
        """
        self._warm = Warm(how)
        described = self._engine.ask(self._warm)
        if described.warmth is None:  # the process says what it was asked
            raise TypeError("the engine's process has not warmed the model")
        self._take_over(described)
        self._supervised = True
        threading.Thread(target=self._supervise, name="engine-supervisor", daemon=True).start()
        # No batch of another process runs on the event loop, however short it is.
        return replace(described.warmth, forward_s=None)

    @property
    def pid(self) -> int:
        """Number of the process that computes, or did last."""
        return self._engine.pid

    @property
    def restarts(self) -> bool:
        """Whether it ends a batch that hangs, and starts itself again."""
        return True

    @property
    def outage(self) -> Outage | None:
        """Why the model does not answer; None: it does."""
        return self._outage

    def predict(self, inputs: Arrays) -> Arrays:
        """Run one batch in the process.

        Args:
            inputs: One array per input.

        Returns:
            One array per output.

        Raises:
            NotReadyError: The process ended, hangs, or is being started again.
            RequestError: What the model raised on purpose.
            MemoryError: It had too little memory.
            ModelFailedError: Everything else that it raised.
        """
        with self._calling:
            said, outputs = self._ask(inputs)
        for name, amount in said.counted:
            self._count(name, amount)
        if isinstance(said, Failure):
            raise said.error()
        return outputs

    def close(self) -> None:
        """End the process; its memory goes with it."""
        self._closing.set()
        if not self._supervised:
            self._engine.end()
        elif self._outage is None:
            self._engine.close()
        else:
            self._engine.kill()  # it loads, and would not notice that nobody waits for it

    def _ask(self, inputs: Arrays) -> tuple[Answer | Failure, Arrays]:
        if self._outage is None:
            try:
                return self._engine.predict(inputs, self._hang_s)
            except TimeoutError:
                self._engine.kill()
                self._outage = Outage(f"the engine hung for {self._hang_s:g} s and is restarted")
            except (EOFError, ConnectionError):
                # Its supervisor may have been first, and knows how it ended.
                ended = Outage("the engine's process ended and is restarted")
                self._outage = self._outage or ended
        raise NotReadyError(self._outage.reason)

    def _take_over(self, described: Described) -> None:
        for name, value in described.model.items():
            setattr(self, name, value)
        self._described = described.model

    def _supervise(self) -> None:
        """Start the process again whenever it ends; the thread's root."""
        crashes = 0
        while True:
            born = time.monotonic()
            ending = self._engine.wait()
            if self._closing.is_set():
                self._lost(Outage("the model is unloaded", final=True))
                return
            crashes = 1 if time.monotonic() - born > _STABLE_S else crashes + 1
            _log.error("engine process ended", ending=ending, crashes=crashes)
            reason = f"the engine's process ended ({ending}) and is restarted"
            self._lost(Outage(reason, unavailable=crashes > _CRASHES_IN_A_ROW))
            if not self._revived(_delay_s(crashes - 1)):
                return

    def _lost(self, outage: Outage) -> None:
        self._outage = outage
        with self._calling:  # whoever waits for an answer has been woken by the end of the process
            self._engine.free()

    def _revived(self, delay_s: float) -> bool:
        """Start the process until the model is warm, or given up."""
        problem = ""
        for attempt in range(1, _MOST_RESTARTS + 1):
            if self._closing.wait(delay_s):
                return False
            began = time.monotonic()
            try:
                self._again()
            except StartupError as failure:
                if self._closing.is_set():
                    return False
                problem, delay_s = failure.message, _delay_s(attempt)
                _log.error("engine process did not come back", attempt=attempt, problem=problem)
            else:
                self._outage = None
                _log.info("engine process is back", seconds=round(time.monotonic() - began, 3))
                return True
        _log.critical("engine process is given up", attempts=_MOST_RESTARTS)
        reason = f"the engine did not come back in {_MOST_RESTARTS} attempts: {problem}"
        self._outage = Outage(reason, unavailable=True, final=True)
        return False

    def _again(self) -> None:
        engine = self._engine = EngineProcess()
        try:
            self._prepare(engine)
        except BaseException:
            engine.end()
            raise

    def _prepare(self, engine: EngineProcess) -> None:
        if self._closing.is_set():  # asked after the new engine became the one that close() closes
            raise StartupError(Reason.INVALID_ARTIFACT, "the model is unloaded")
        engine.ask(self._start)
        warm = engine.ask(self._warm).model
        if any(warm[name] != self._described[name] for name in ("inputs", "outputs")):
            raise StartupError(
                Reason.SIGNATURE_MISMATCH, "another model lies where this one was loaded from"
            )


def _delay_s(failures: int) -> float:
    """The first restart is at once; then the delay doubles."""
    return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** (failures - 1)) if failures else 0.0
