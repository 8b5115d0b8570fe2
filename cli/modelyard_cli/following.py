"""Several logs at once, and those of pods that come later: one thread for each container."""

import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelyard_cli.errors import ApiError, CliError
from modelyard_cli.log_sources import Source
from modelyard_cli.view import Manifest

if TYPE_CHECKING:
    from modelyard_cli.cluster import Cluster

Line = tuple[Source, str]


@dataclass
class Follower:
    """Reads the logs of a ModelDeployment's pods as they come.

    Attributes:
        cluster: The API server.
        name: Name of the ModelDeployment.
        choose: Which containers of a pod are read.
        query: For the log of each.
    """

    cluster: "Cluster"
    name: str
    choose: Callable[[Manifest], Iterable[Source]]
    query: Mapping[str, str]
    _lines: "queue.Queue[Line | CliError | None]" = field(default_factory=queue.Queue)
    _read: set[Source] = field(default_factory=set)
    """Runs of containers that a thread reads, or has read."""

    def follow(self, show: Callable[[Source, str], None]) -> None:
        """Show lines until the watch of the pods ends.

        Args:
            show: What is done with a line; called from this thread only.

        Raises:
            CliError: The pods or a log cannot be read (any more).
        """
        threading.Thread(target=self._find, daemon=True).start()
        while (line := self._lines.get()) is not None:
            if isinstance(line, CliError):
                raise line
            show(*line)

    def _find(self) -> None:
        """Start to read each container as soon as it runs, and again when it runs again."""
        try:
            for pod in self.cluster.watch_pods(self.name):
                for source in self.choose(pod):
                    self._start(source)
        except CliError as error:
            self._lines.put(error)
        else:
            self._lines.put(None)

    def _start(self, source: Source) -> None:
        if source not in self._read:
            self._read.add(source)
            threading.Thread(target=self._pump, args=(source,), daemon=True).start()

    def _pump(self, source: Source) -> None:
        words = {"container": source.container, "follow": "true", **self.query}
        try:
            for line in self.cluster.log(source.pod, words):
                self._lines.put((source, line))
        except ApiError as error:  # the pod went before its log was read
            self._lines.put((source, f"({error})"))
        except CliError as error:
            self._lines.put(error)
