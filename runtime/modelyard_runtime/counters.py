"""Counters that a user's handler owns, beside the runtime's own series."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,119}")
_RESERVED: Final = ("modelyard_", "process_", "python_")
_LABELS: Final = ("model", "version", "revision")
_MOST: Final = 100
"""A name made from a request's content would otherwise fill the memory."""


class Counters:
    """The handlers' counters of one process.

    Args:
        registry: Where they are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._families: dict[str, Counter] = {}
        self._lock = threading.Lock()

    def of(self, model: str, version: str, revision: str) -> Callable[[str, float], None]:
        """Give a model its way to count.

        Args:
            model: The label of that name.
            version: The label of that name.
            revision: The label of that name.

        Returns:
            Takes a counter's name and an amount; may be called from any thread.
        """
        labels = model, version, revision

        def count(name: str, amount: float = 1.0) -> None:
            self._family(name).labels(*labels).inc(amount)

        return count

    def _family(self, name: str) -> Counter:
        stem = name.removesuffix("_total")
        family = self._families.get(stem)
        if family is not None:
            return family
        if not _NAME.fullmatch(stem) or stem.startswith(_RESERVED):
            raise ValueError(f"a handler's counter cannot be called {name[:120]!r}")
        with self._lock:
            if stem not in self._families:
                if len(self._families) >= _MOST:
                    raise ValueError(
                        f"handlers have {_MOST} counters already, {name!r} is too many"
                    )
                self._families[stem] = Counter(
                    stem, "Counted by the handler.", _LABELS, registry=self._registry
                )
            return self._families[stem]
