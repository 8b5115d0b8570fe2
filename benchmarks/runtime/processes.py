"""A server under measurement: started, waited for, asked what it costs, ended with all its children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

START_S: Final = 180
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Request:
    """What is sent to a server, always the same.

    Attributes:
        path: Where to.
        body: Its bytes.
        headers: Name → value.
    """

    path: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        address: ``http://host:port``.
        process_id: The first of its processes, from which the others descend.
        start_s: Time to the first answer, in seconds.
        answer: The body of that answer.
    """

    address: str
    process_id: int
    start_s: float
    answer: bytes

    def cpu_s(self) -> float:
        """Read the processor time that all its living processes have used, in seconds."""
        return sum(_cpu_s(each) for each in descendants(self.process_id))

    def pss_mib(self) -> float:
        """Read its memory, shared pages counted by share, in MiB."""
        return sum(_pss_mib(each) for each in descendants(self.process_id))


def descendants(process_id: int) -> list[int]:
    """List a process and what descends from it; some peers' workers leave its session."""
    parents = {
        int(entry.name): parent
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and (parent := _parent(entry)) is not None
    }

    def belongs(candidate: int) -> bool:
        while candidate not in {process_id, 0, 1}:
            candidate = parents.get(candidate, 0)
        return candidate == process_id

    return [each for each in parents if belongs(each)]


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(address: str, request: Request) -> bytes:
    """Send one request; any answer but 200 raises."""
    sent = urllib.request.Request(  # noqa: S310 - our own server
        address + request.path, request.body, dict(request.headers)
    )
    with urllib.request.urlopen(sent, timeout=30) as answer:  # noqa: S310
        body: bytes = answer.read()
        return body


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], request: Request, log: Path
) -> Iterator[Server]:
    """Run a server until it has answered, and end it and its children afterwards.

    Args:
        command: Its words; ``PORT`` in them is replaced.
        environment: On top of ours; ``PORT`` in it is replaced.
        request: What it must answer.
        log: Where its output goes.

    Yields:
        The server.

    Raises:
        RuntimeError: It ends, or does not answer in time; with the end of its log.
    """
    port = str(free_port())
    begun = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [word.replace("PORT", port) for word in command],
            env={**os.environ, **{k: v.replace("PORT", port) for k, v in environment.items()}},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        answer = _first_answer(process, address, request, log)
        yield Server(address, process.pid, time.monotonic() - begun, answer)
    finally:
        for each in descendants(process.pid):
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.kill(each, signal.SIGKILL)
        process.wait()


def _first_answer(
    process: subprocess.Popen[bytes], address: str, request: Request, log: Path
) -> bytes:
    end = time.monotonic() + START_S
    problem: Exception | None = None
    while time.monotonic() < end and process.poll() is None:
        try:
            return ask(address, request)
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            problem = error
            time.sleep(0.02)
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"the server does not answer ({problem}):\n{tail}")


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def _cpu_s(process_id: int) -> float:
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _pss_mib(process_id: int) -> float:
    try:
        text = Path(f"/proc/{process_id}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line[:4] == "Pss:")
