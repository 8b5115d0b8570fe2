"""Progress that a newcomer can follow: what runs, for how long, and what it yields."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

REMINDER_S: Final = 30.0
"""Without a terminal, how often a long step says that it still runs."""
QUIET_S: Final = 0.3
"""Steps shorter than this leave no line."""


class Report:
    """Shows steps, several at a time, on standard error.

    Attributes:
        console: Where messages go; standard output is left to results.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = self.console.is_terminal
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._running: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False)

    @contextmanager
    def step(self, title: str, hint: str = "") -> Iterator[None]:
        """Show a step while its body runs.

        Args:
            title: What is being done.
            hint: What to expect, e.g. how long it takes the first time.
        """
        started = time.monotonic()
        label = f"{title} ({hint})" if hint else title
        ended = threading.Event()
        show = self._spin(label) if self._live else self._remind(label, started, ended)
        failed = True
        try:
            with show:
                yield
            failed = False
        finally:
            ended.set()
            took = time.monotonic() - started
            if failed or took > QUIET_S or hint:
                self.say(f"{'✗' if failed else '✓'} {title} · {duration(took)}")

    @contextmanager
    def _spin(self, label: str) -> Iterator[None]:
        with self._lock:
            if self._progress is None:
                columns = (SpinnerColumn(), TextColumn("{task.description} ·"), TimeElapsedColumn())
                self._progress = Progress(*columns, console=self.console, transient=True)
                self._progress.start()
            progress = self._progress
            task = progress.add_task(label, total=None)
        try:
            yield
        finally:
            with self._lock:
                progress.remove_task(task)
                if not progress.tasks:
                    progress.stop()
                    self._progress = None

    @contextmanager
    def _remind(self, label: str, started: float, ended: threading.Event) -> Iterator[None]:
        def remind() -> None:
            if ended.wait(QUIET_S):
                return
            self.say(f"… {label}")
            while not ended.wait(REMINDER_S):
                self.say(f"… {label} · {duration(time.monotonic() - started)}")

        threading.Thread(target=remind, daemon=True).start()
        yield


def duration(seconds: float) -> str:
    """Return a time as people write it: ``0.4 s``, ``12 s``, ``3:12``."""
    if seconds < 10:  # noqa: PLR2004 - one digit before the point
        return f"{seconds:.1f} s"
    if seconds < 60:  # noqa: PLR2004 - seconds in a minute
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def fail(error: Exception) -> None:
    """Print why the tool gives up."""
    print(f"error: {error}", file=sys.stderr)
