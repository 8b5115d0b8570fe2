"""The access log: some of the requests that were answered, and all that were not."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime.records.lines import STDOUT, Lines

if TYPE_CHECKING:
    from modelyard_runtime.directives import Directives
    from modelyard_runtime.records.ending import Ending

_ERROR: Final = 400


class AccessLog:
    """Writes a line for a request, if the directives want one."""

    def __init__(self) -> None:
        self._ratio = 0.0
        self._lost = 0
        self._lines = Lines(STDOUT, self._on_drop)

    def apply(self, directives: Directives) -> None:
        """Log the share of requests that the directives want from now on.

        Args:
            directives: The current ones.
        """
        self._ratio = directives.access_log.sampling_ratio

    def wants(self, code: int) -> bool:
        """Choose whether a request is logged.

        Args:
            code: Its HTTP status.

        Returns:
            True for every error, and for the sampled share of the others.
        """
        # Sampling is no secret.
        return code >= _ERROR or (self._ratio > 0 and random.random() < self._ratio)  # noqa: S311

    def note(self, ending: Ending) -> None:
        """Log a request.

        Args:
            ending: How it ended.
        """
        self._lines.put(lambda: self._line(ending))

    def close(self) -> None:
        """Take no more lines."""
        self._lines.close()

    def flush(self, timeout_s: float) -> None:
        """Wait until all is written, after ``close``.

        Args:
            timeout_s: Longest wait, in seconds.
        """
        self._lines.flush(timeout_s)

    def _line(self, ending: Ending) -> dict[str, Any]:
        lost, self._lost = self._lost, 0
        level = "warning" if ending.code >= _ERROR else "info"
        line = {"event": "request", "level": level, **ending.document()}
        return {**line, "lines_lost": lost} if lost else line

    def _on_drop(self) -> None:
        self._lost += 1
