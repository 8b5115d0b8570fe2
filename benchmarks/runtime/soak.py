"""Serve for a while under everything that happens in production, and look for what adds up.

    python benchmarks/runtime/soak.py                     ten minutes
    python benchmarks/runtime/soak.py --minutes 1

70 % of the capacity that the same client measures first; a reload every 20 s; clients that hang up,
in the middle of a request and before its answer; 1 % malformed requests. Every answer is compared with
the model's own answer to that input. Ends with 1 when an answer was wrong or missing, or something leaks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from architectures import SHAPES, build
from artifacts import INPUT, make
from client import Connection
from contestants import modelyard
from processes import Request, free_port, started
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from processes import Server

RESULTS: Final = Path(__file__).parent.parent / "results" / "soak.md"
MODEL: Final = "m1"
CONNECTIONS: Final = 16
SHARE: Final = 0.7
RELOAD_S: Final = 20.0
SAMPLE_S: Final = 2.0
VANISH_S: Final = 0.2
MALFORMED: Final = 0.01
INPUTS: Final = 512
_JSON: Final = {"content-type": "application/json"}
_GROWTH: Final = 4
"""File descriptors and tasks that an idle server may have more of at the end than at the start."""
_SETTLE_S: Final = 3.0
_SLOPE_MIB_PER_MINUTE: Final = 1.0
_BAD_BODIES: Final = (
    b"{",
    b"[]",
    b'{"inputs": []}',
    b'{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}',
    b'{"inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 128], "data": []}]}',
    b'{"inputs": [{"name": "nobody", "datatype": "FP32", "shape": [1], "data": [1]}]}',
    b'{"inputs": [{"name": "input", "datatype": "FP99", "shape": [1, 128], "data": [0]}]}',
)


@dataclass(frozen=True)
class Sample:
    """The server at one moment.

    Attributes:
        seconds: Since the start.
        rss_mib: Resident memory, in MiB.
        files: Open file descriptors.
        tasks: Tasks of the event loop.
    """

    seconds: float
    rss_mib: float
    files: int
    tasks: float


@dataclass
class Tally:
    """What the clients saw."""

    right: int = 0
    wrong: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    malformed: int = 0
    vanished: int = 0
    reloads: int = 0
    latencies_s: list[float] = field(default_factory=list)

    def fail(self, what: str) -> None:
        """Count an answer that should have been another."""
        self.failed[what] = self.failed.get(what, 0) + 1


class Clients:
    """Everybody who talks to the server.

    Args:
        server: The server.
        tally: Where they count.
    """

    def __init__(self, server: Server, tally: Tally) -> None:
        self._server = server
        self._tally = tally
        self._random = random.Random(0)  # noqa: S311 - repeatable, not secret
        self._requests, self._answers = _questions()

    async def capacity(self, seconds: float) -> float:
        """Measure the most that this client gets, in requests a second."""
        end = time.monotonic() + seconds

        async def ask() -> int:
            connection, answered = Connection(self._server.address), 0
            while time.monotonic() < end:
                await self._ask(connection)
                answered += 1
            connection.close()
            return answered

        counts = await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
        self._tally.latencies_s.clear()
        return sum(counts) / seconds

    async def run(self, rate: float, seconds: float) -> None:
        """Keep a rate for a time, with everything else beside it."""
        end = time.monotonic() + seconds
        asking = [
            _every(CONNECTIONS / rate, end, self._asker(), first=n / rate)
            for n in range(CONNECTIONS)
        ]
        await asyncio.gather(
            *asking,
            _every(RELOAD_S, end, self._reload, first=RELOAD_S),
            _every(VANISH_S, end, self._vanish),
        )

    def _asker(self) -> Callable[[], Awaitable[None]]:
        connection = Connection(self._server.address)

        async def ask() -> None:
            try:
                await self._ask(connection)
            except (OSError, asyncio.IncompleteReadError) as error:
                self._tally.fail(type(error).__name__)
                connection.close()

        return ask

    async def _ask(self, connection: Connection) -> None:
        if self._random.random() < MALFORMED:
            bad = Request(self._requests[0].path, self._random.choice(_BAD_BODIES), _JSON)
            answer = await connection.ask(bad)
            self._tally.malformed += 1
            if not 400 <= answer.status < 500:  # noqa: PLR2004 - client errors
                self._tally.fail(f"{answer.status} for a malformed request")
            return
        which = self._random.randrange(INPUTS)
        begun = time.perf_counter()
        answer = await connection.ask(self._requests[which])
        self._tally.latencies_s.append(time.perf_counter() - begun)
        if answer.status != 200:  # noqa: PLR2004
            self._tally.fail(str(answer.status))
        elif np.allclose(_values(answer.body), self._answers[which], 1e-3, 1e-3):
            self._tally.right += 1
        else:
            self._tally.wrong += 1

    async def _vanish(self) -> None:
        share = self._random.choice((0.05, 0.5, 1.0))
        await Connection(self._server.address).vanish(self._requests[0], share)
        self._tally.vanished += 1

    async def _reload(self) -> None:
        path = f"/v2/repository/models/{MODEL}/load"
        answer = await Connection(self._server.address).ask(Request(path, b"{}", _JSON))
        self._tally.reloads += 1
        if answer.status != 200:  # noqa: PLR2004
            self._tally.fail(f"reload: {answer.body[:200]!r}")


async def _every(
    interval_s: float, end: float, work: Callable[[], Awaitable[None]], first: float = 0.0
) -> None:
    """Do something at fixed times; what is late is done at once."""
    due = time.monotonic() + first
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await work()
        due += interval_s


def _questions() -> tuple[list[Request], np.ndarray[Any, Any]]:
    """Make inputs that are told apart, and the model's own answers."""
    rows = np.random.default_rng(1).random((INPUTS, *SHAPES[MODEL]), dtype=np.float32)
    with torch.inference_mode():
        answers = build(MODEL)(torch.from_numpy(rows)).numpy()
    tensor = {"name": INPUT, "datatype": "FP32", "shape": [1, *SHAPES[MODEL]]}
    bodies = (json.dumps({"inputs": [{**tensor, "data": row.tolist()}]}) for row in rows)
    path = f"/v2/models/{MODEL}/infer"
    return [Request(path, body.encode(), _JSON) for body in bodies], answers


def _values(body: bytes) -> list[float]:
    values: list[float] = json.loads(body)["outputs"][0]["data"]
    return values


async def watch(server: Server, metrics: str, samples: list[Sample]) -> None:
    """Look at the server again and again."""
    begun = time.monotonic()
    while True:
        look = await asyncio.to_thread(_look, server, metrics)
        samples.append(Sample(time.monotonic() - begun, *look))
        await asyncio.sleep(SAMPLE_S)


def _look(server: Server, metrics: str) -> tuple[float, int, float]:
    """Return resident memory in MiB, file descriptors and tasks."""
    process = Path("/proc", str(server.process_id))
    status = (process / "status").read_text(encoding="ascii")
    return (
        _number(r"^VmRSS:\s+(\d+)", status) / 1024,
        len(list((process / "fd").iterdir())),
        _number(r"^modelyard_event_loop_tasks (\S+)", _metrics(metrics)),
    )


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text, re.MULTILINE)
    return float(found[1]) if found else float("nan")


def _metrics(address: str) -> str:
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:  # noqa: S310 - our own server
        text: str = answer.read().decode()
    return text


async def soak(server: Server, metrics: str, seconds: float, tally: Tally) -> tuple[float, Any]:
    """Run the clients; returns the rate and the samples."""
    clients = Clients(server, tally)
    capacity = await clients.capacity(5.0)
    rate = SHARE * capacity
    samples: list[Sample] = []
    watching = asyncio.create_task(watch(server, metrics, samples))
    await clients.run(rate, seconds)
    watching.cancel()
    return rate, samples


@dataclass(frozen=True)
class Verdict:
    """What the samples say.

    Attributes:
        slope: Of the resident memory over the last two thirds, in MiB a minute.
        files: File descriptors of the idle server, after minus before.
        tasks: Tasks, likewise.
    """

    slope: float
    files: float
    tasks: float


def judge(samples: list[Sample], idle: tuple[Sample, Sample]) -> Verdict:
    """Compare the end with what was there once everything had been used."""
    settled = samples[len(samples) // 3 :]
    minutes = [each.seconds / 60 for each in settled]
    slope = float(np.polyfit(minutes, [each.rss_mib for each in settled], 1)[0])
    before, after = idle
    return Verdict(slope, after.files - before.files, after.tasks - before.tasks)


def report(
    tally: Tally, rate: float, samples: list[Sample], verdict: Verdict, minutes: float
) -> tuple[str, bool]:
    """Write the table; returns it, and whether everything held."""
    late = np.quantile(tally.latencies_s, [0.5, 0.99]) * 1000
    failed = ", ".join(f"{count} x {what}" for what, count in tally.failed.items()) or "0"
    rows = (
        ("rate kept", f"{rate:,.0f} req/s, {SHARE:.0%} of what this client gets"),
        (
            "answers, each compared with its own input",
            f"{tally.right:,} right, {tally.wrong} wrong",
        ),
        ("valid requests not answered 200", failed),
        ("latency p50 / p99", f"{late[0]:.2f} / {late[1]:.1f} ms"),
        ("malformed requests, all answered 4xx", f"{tally.malformed:,}"),
        ("clients that hung up", f"{tally.vanished:,}"),
        ("reloads", str(tally.reloads)),
        (
            "resident memory, first and last",
            f"{samples[0].rss_mib:.0f}, {samples[-1].rss_mib:.0f} MiB",
        ),
        ("slope of the resident memory", f"{verdict.slope:+.2f} MiB/min over the last two thirds"),
        ("file descriptors, idle, growth", f"{verdict.files:+.0f}"),
        ("tasks, idle, growth", f"{verdict.tasks:+.0f}"),
    )
    held = not tally.wrong and not tally.failed and verdict.slope < _SLOPE_MIB_PER_MINUTE
    held = held and verdict.files <= _GROWTH and verdict.tasks <= _GROWTH
    text = (
        f"# Soak\n\n`python benchmarks/runtime/soak.py --minutes {minutes:g}`: M1 (see runtime.md), one "
        f"process, one compute thread, {CONNECTIONS} connections.\n\n| what | seen |\n|---|---|\n"
    )
    return text + "".join(f"| {what} | {seen} |\n" for what, seen in rows), held


def main() -> int:
    """Run the soak and write ``benchmarks/results/soak.md``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tally = Tally()
    port = str(free_port())
    with tempfile.TemporaryDirectory() as name:
        artifacts = make(Path(name))
        request = _questions()[0][0]
        contestant = modelyard(
            "modelyard", artifacts.exported[MODEL], request, control="explicit", metrics_port=port
        )
        with started(
            contestant.command, contestant.environment, request, Path(name, "server.log")
        ) as server:
            metrics = f"http://127.0.0.1:{port}"
            before = Sample(0.0, *_look(server, metrics))
            rate, samples = asyncio.run(soak(server, metrics, arguments.minutes * 60, tally))
            time.sleep(_SETTLE_S)  # until the server has seen that its clients are gone
            after = Sample(samples[-1].seconds, *_look(server, metrics))
    verdict = judge(samples, (before, after))
    text, held = report(tally, rate, samples, verdict, arguments.minutes)
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")
    Console().print(text)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
