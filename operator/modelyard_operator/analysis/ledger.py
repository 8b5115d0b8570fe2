"""What each pod's counters said last, for as long as one window runs."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from modelyard_operator.analysis.counters import Counters, growth


class Ledger:
    """Turns scrapes of counters that only grow into what happened between them."""

    def __init__(self) -> None:
        self._last: dict[str, Counters] = {}

    def grown(self, readings: Mapping[str, Counters]) -> list[Counters]:
        """Take in one scrape.

        Args:
            readings: Counters of the pods that answered, by pod.

        Returns:
            By how much the counters of each have grown. A pod that is seen for the first time has
            nothing yet: what it has counted may be older than the window. One that did not answer
            will be asked for all of it the next time.
        """
        grown: list[Counters] = [
            growth(self._last[pod], counters)
            for pod, counters in readings.items()
            if pod in self._last
        ]
        self._last.update(readings)
        return grown

    def keep(self, pods: AbstractSet[str]) -> None:
        """Forget all other pods: a window without an end would remember every pod that ever was."""
        self._last = {pod: counters for pod, counters in self._last.items() if pod in pods}
