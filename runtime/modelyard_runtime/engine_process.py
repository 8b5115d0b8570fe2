"""``python -m modelyard_runtime.engine_process``: one model, in a process of its own.

It is started by ``engine/process_engine.py`` and ends with it: when the server closes the connection,
or, even while native code holds the interpreter, when the server is gone.
"""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

import structlog
from prometheus_client import CollectorRegistry

from modelyard_runtime.counters import Counters
from modelyard_runtime.engine.process_protocol import Answer, Described, Failure, Refused
from modelyard_runtime.engine.shared_memory import Inbox, Outbox
from modelyard_runtime.errors import StartupError
from modelyard_runtime.loading import load_alone
from modelyard_runtime.log import configure_logging
from modelyard_runtime.repository import startup_error
from modelyard_runtime.warming import warm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelyard_runtime.engine.process_protocol import Question, Start, Warm
    from modelyard_runtime.engine.protocol import Model

_log = structlog.stdlib.get_logger(__name__)

_KEEP_INPUTS: Final = frozenset({"Custom", "TorchEager", "Safetensors", "MLflow"})
"""Formats that are a user's code, which may keep what it was given."""
_BROKEN_DEVICE: Final = 70
"""Exit code: the device answers no call of this process any more."""


def main(arguments: Sequence[str]) -> int:
    """Load the model, warm it, answer until the server closes the connection.

    Args:
        arguments: Two file descriptors: the connection, and the pipe that the server holds open.

    Returns:
        The exit code: 0 when the server wanted it, 1 when the model cannot be served.
    """
    _die_with_the_server(int(arguments[1]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server drains first, and then closes
    faulthandler.enable()  # a crash in native code names the line of Python that led there
    configure_logging()
    os.set_inheritable(int(arguments[0]), False)
    connection: Connection[Any, Any] = Connection(int(arguments[0]))
    try:
        return _run(connection)
    except (EOFError, ConnectionError):
        return 0


def _run(connection: Connection[Any, Any]) -> int:
    start: Start = connection.recv()
    tally = _Tally()
    try:
        model = load_alone(start.artifact, start.config, tally)
        connection.send(Described.of(model))
        then: Warm = connection.recv()
        warmth = warm(model, **then.how)
    except (EOFError, ConnectionError):
        raise
    except StartupError as error:
        connection.send(Refused.because(error))
        return 1
    except Exception as error:  # noqa: BLE001 - the root of all loaders; told to the server
        connection.send(Refused.because(startup_error(error)))
        return 1
    connection.send(Described.of(model, warmth))
    del warmth
    gc.collect()
    gc.freeze()
    try:
        _Desk(connection, model, tally, keeps_inputs=start.artifact.format in _KEEP_INPUTS).serve()
    finally:
        model.close()
    return 0


class _Desk:
    """Answers one batch after the other."""

    def __init__(
        self,
        connection: Connection[Any, Any],
        model: Model,
        tally: _Tally,
        *,
        keeps_inputs: bool,
    ) -> None:
        self._connection = connection
        self._model = model
        self._tally = tally
        self._keeps_inputs = keeps_inputs
        self._inbox = Inbox(connection)
        self._outbox = Outbox(connection)

    def serve(self) -> None:
        while True:
            question: Question = self._connection.recv()
            self._connection.send(self._answer(question))
            self._outbox.flush()

    def _answer(self, question: Question) -> Answer | Failure:
        try:
            inputs = self._inbox.take(question.inputs, copy=self._keeps_inputs)
            letter = self._outbox.put(self._model.predict(inputs))
        except Exception as error:  # noqa: BLE001 - the root of all model code; told to the server
            if _device_is_broken(error):
                _log.exception("the device is broken for this process, it ends")
                sys.stdout.flush()
                os._exit(_BROKEN_DEVICE)
            return Failure.of(error, self._tally.taken())
        return Answer(letter, self._tally.taken())


class _Tally:
    """Notes what a handler counts, until the server is told."""

    def __init__(self) -> None:
        self._check = Counters(CollectorRegistry()).of("", "", "")
        self._counted: list[tuple[str, float]] = []

    def __call__(self, name: str, amount: float) -> None:
        self._check(name, amount)
        self._counted.append((name, amount))

    def taken(self) -> tuple[tuple[str, float], ...]:
        counted = tuple(self._counted)
        self._counted.clear()
        return counted


def _device_is_broken(error: Exception) -> bool:
    """Tell an error after which every further call to CUDA fails in this process."""
    text = str(error).lower()
    return "cuda error" in text and "out of memory" not in text


def _die_with_the_server(pipe: int) -> None:
    """Have the kernel kill this process when the other end of a pipe is closed.

    A parent-death signal would do it when the *thread* ends that started this process, and a thread
    here that waits for the end of the pipe cannot run while native code holds the interpreter.

    References:
        ``fcntl(2)``, ``F_SETOWN``, ``F_SETSIG``, ``O_ASYNC``.
    """
    os.set_inheritable(pipe, False)
    set_signal = getattr(fcntl, "F_SETSIG", None)
    if set_signal is None:  # not Linux: the end of the connection must do
        return
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, set_signal, signal.SIGKILL)
    flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_ASYNC)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
