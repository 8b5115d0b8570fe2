"""Clients of the model, as the driver handles them: one pass over the digits, or constant load."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from demo.errors import DemoError
from demo.samples import Sample

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from demo.client import Target
    from demo.cluster import Cluster


STOP_S: Final = 40.0
"""Longer than a request may take: a client finishes what it has asked for."""


@dataclass(frozen=True)
class Clients:
    """Starts clients.

    Attributes:
        cluster: Where they run.
        digits: File with what they ask for.
    """

    cluster: Cluster
    digits: Path

    def ask_once(self, target: Target) -> list[Sample]:
        """Ask for every digit once and return what the client saw."""
        return parse(self.cluster.run(*self._argv(target)))

    def load(self, target: Target, rate: float) -> Load:
        """Start a client that asks ``rate`` times a second until it is stopped."""
        return Load(self.cluster.start(*self._argv(target), f"--rate={rate}"))

    def _argv(self, target: Target) -> list[str]:
        return [
            *(sys.executable, "-m", "demo.client"),
            *(f"--proxy={target.proxy}", f"--host={target.host}"),
            *(f"--model={target.model}", f"--digits={self.digits}"),
        ]


class Load:
    """A client that runs beside the driver.

    Attributes:
        samples: What it has seen so far.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.samples: list[Sample] = []
        self._process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def check(self) -> None:
        """Raise when the client has ended by itself."""
        if self._process.poll() is not None:
            told = self._process.stderr.read() if self._process.stderr else ""
            raise DemoError(f"the client has ended: {told.strip()[-500:]}")

    def stop(self) -> None:
        """Let the client finish what it has asked for, and end."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        self._reader.join(STOP_S)
        if self._process.poll() is None and self._reader.is_alive():
            self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.samples.extend(parse(line))


def parse(text: str) -> list[Sample]:
    """Return the samples that a client has printed."""
    return [Sample(*sample) for line in text.splitlines() if line for sample in json.loads(line)]
