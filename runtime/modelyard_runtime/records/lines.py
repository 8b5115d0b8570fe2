"""Lines of JSON, written by a thread: whoever has one never waits for the sink."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Make = Callable[[], Mapping[str, Any]]

STDOUT: Final = "stdout"
_MOST: Final = 8192
"""Lines that may wait: a second and more of a busy server's."""
_AT_ONCE: Final = 256

_log = structlog.stdlib.get_logger(__name__)


class Lines:
    """A sink for JSON lines.

    Args:
        sink: ``stdout``, or the path of a file that is appended to; it is opened for each write, so
            that it may be rotated.
        on_drop: Told of every line that is lost, because too many wait or the sink takes none.
    """

    def __init__(self, sink: str, on_drop: Callable[[], None]) -> None:
        self._sink = sink
        self._on_drop = on_drop
        self._waiting: SimpleQueue[Make | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._broken = False

    def put(self, make: Make) -> None:
        """Write a line soon.

        Args:
            make: Gives its content; called by the thread that writes.
        """
        if self._waiting.qsize() >= _MOST:
            self._on_drop()
            return
        self._waiting.put(make)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="lines", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Take no more lines; what waits is still written, by the thread."""
        self._waiting.put(None)

    def flush(self, timeout_s: float) -> None:
        """Wait until everything is written, after ``close``.

        Args:
            timeout_s: Longest wait, in seconds.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self) -> None:
        while True:
            batch = list(self._next())
            makes = [make for make in batch if make is not None]
            if makes:
                self._write(makes)
            if len(makes) < len(batch):
                return

    def _next(self) -> Iterator[Make | None]:
        yield self._waiting.get()
        for _ in range(_AT_ONCE - 1):
            try:
                yield self._waiting.get_nowait()
            except Empty:
                return

    def _write(self, makes: list[Make]) -> None:
        try:
            content = b"".join(
                orjson.dumps(make(), default=str, option=orjson.OPT_APPEND_NEWLINE)
                for make in makes
            )
            if self._sink == STDOUT:
                # The logs go through the same buffer, so that lines stay whole.
                sys.stdout.buffer.write(content)
                sys.stdout.buffer.flush()
            else:
                with Path(self._sink).open("ab") as file:
                    file.write(content)
        except Exception as error:  # noqa: BLE001 - the thread's root: later lines may be written
            for _ in makes:
                self._on_drop()
            if not self._broken:
                _log.error("lines cannot be written", sink=self._sink, problem=str(error))
            self._broken = True
        else:
            self._broken = False
