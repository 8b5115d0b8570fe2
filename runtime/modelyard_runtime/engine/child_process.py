"""One life of the process that an engine has of its own, as the server sees it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelyard_runtime.engine.process_protocol import Failure, Question, Refused, Warm
from modelyard_runtime.engine.shared_memory import Inbox, Outbox
from modelyard_runtime.errors import Reason, StartupError

if TYPE_CHECKING:
    from modelyard_runtime.engine.process_protocol import Answer, Described, Start
    from modelyard_runtime.engine.protocol import Arrays

_MODULE: Final = "modelyard_runtime.engine_process"
_CLOSE_S: Final = 5.0
"""How long a process may take to end by itself."""


class EngineProcess:
    """A process that loads one model and runs its batches; it is started at once.

    Raises:
        StartupError: ``OutOfMemory``: the system starts no more processes.
    """

    def __init__(self) -> None:
        self._closing = threading.Lock()
        self._reaper: threading.Timer | None = None
        self._connection, theirs = Pipe()
        life, self._lifeline = os.pipe()
        inherited = (theirs.fileno(), life)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module in our own interpreter
                [sys.executable, *interpreter_flags(), "-m", _MODULE, *map(str, inherited)],
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
            )
        except OSError as error:
            self._connection.close()
            os.close(self._lifeline)
            raise StartupError(
                Reason.OUT_OF_MEMORY,
                f"no process can be started for the engine: {error.strerror}",
                hint="Raise the memory limit, or the limit of processes.",
                retryable=True,
            ) from error
        finally:
            theirs.close()
            os.close(life)
        self._outbox = Outbox(self._connection)
        self._inbox = Inbox(self._connection)
        self._poll = select.poll()
        self._poll.register(self._connection.fileno(), select.POLLIN)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, message: Start | Warm) -> Described:
        """Have the process load its model, or warm it; takes as long as it takes.

        Args:
            message: What it is to do.

        Returns:
            What it says about the model.

        Raises:
            StartupError: What the loader or warming raised there; ``InvalidArtifact`` or
                ``WarmupFailed`` when the process died of it.
        """
        try:
            self._connection.send(message)
            said: Described | Refused = self._connection.recv()
        except (EOFError, ConnectionError):
            warming = isinstance(message, Warm)
            raise StartupError(
                Reason.WARMUP_FAILED if warming else Reason.INVALID_ARTIFACT,
                f"the engine's process ended while it {'warmed' if warming else 'loaded'}: "
                f"{_ending(self._process.wait())}",
                hint="Ended by signal 9 it was most likely out of memory.",
            ) from None
        if isinstance(said, Refused):
            raise said.error()
        return said

    def predict(self, inputs: Arrays, timeout_s: float) -> tuple[Answer | Failure, Arrays]:
        """Run one batch there.

        Args:
            inputs: One array per input.
            timeout_s: Longest time that it may take, in seconds.

        Returns:
            What the process said, and the outputs; none when it said that the model raised.

        Raises:
            EOFError: The process has ended.
            ConnectionError: Likewise.
            TimeoutError: It does not answer.
        """
        self._connection.send(Question(self._outbox.put(inputs)))
        self._outbox.flush()
        if not self._poll.poll(timeout_s * 1000):
            raise TimeoutError
        said: Answer | Failure = self._connection.recv()
        if isinstance(said, Failure):
            return said, ()
        return said, self._inbox.take(said.outputs, copy=True)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def end(self) -> None:
        """End the process at once, wait for it, and free what it held."""
        self._process.kill()
        self.wait()
        self.free()

    def close(self) -> None:
        """Ask the process to end; it is killed if it takes long."""
        self._hang_up()
        self._reaper = threading.Timer(_CLOSE_S, self._process.kill)
        self._reaper.daemon = True
        self._reaper.start()

    def wait(self) -> str:
        """Wait for the end of the process.

        Returns:
            How it ended, in words.
        """
        code = self._process.wait()
        self._hang_up()  # wakes who waits for an answer, even when a child of the process lives on
        if self._reaper is not None:
            self._reaper.cancel()
        return _ending(code)

    def free(self) -> None:
        """Close every descriptor; from now on nobody may use the engine."""
        with self._closing:
            self._outbox.close()
            self._inbox.close()
            self._connection.close()
            os.close(self._lifeline)

    def _hang_up(self) -> None:
        with self._closing:
            if self._connection.closed:
                return
            with socket.socket(fileno=os.dup(self._connection.fileno())) as end:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:  # the other side was faster
                    return


def interpreter_flags() -> list[str]:
    """Let a process look for modules in the current folder if, and only if, this one does.

    Returns:
        Flags of Python.
    """
    return [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code}, {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
