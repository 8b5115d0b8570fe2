"""A client of the model, run where the proxy is reachable: ``python -m demo.client``.

It prints JSON lines, each a list of samples, and ends when its standard input does: so it never
outlives the demo.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from demo.digits import Digits
from demo.samples import OK, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

REPORT_EVERY_S: Final = 0.2
REQUEST_TIMEOUT_S: Final = 30.0
CONNECTIONS: Final = 32
"""Requests that may be on their way at once."""
CATCH_UP_S: Final = 0.5
"""How far the load may lag behind its rate and make up for it."""
REVISION: Final = "X-Modelyard-Revision"
VERSION: Final = "X-Modelyard-Model-Version"


@dataclass(frozen=True)
class Target:
    """Where requests go.

    Attributes:
        proxy: Address of the proxy, ``host:port``.
        host: Host that the route is for.
        model: Served name.
    """

    proxy: str
    host: str
    model: str

    @property
    def url(self) -> str:
        """The model's URL at the proxy."""
        return f"http://{self.proxy}/v2/models/{self.model}"


def label_of(document: dict[str, Any]) -> int:
    """Return the digit that an inference response names.

    Args:
        document: The response: its first output holds labels ``(1,)`` or scores ``(1, 10)``.
    """
    output = document["outputs"][0]
    values: Sequence[float] = output["data"]
    if len(output["shape"]) == 1:
        return int(values[0])
    return max(range(len(values)), key=values.__getitem__)


class Client:
    """Asks for digits and keeps what it saw until somebody takes it.

    Attributes:
        seen: Samples that were not taken yet.
    """

    def __init__(self, session: aiohttp.ClientSession, target: Target, digits: Digits) -> None:
        self.seen: list[Sample] = []
        self._session = session
        self._url = f"{target.url}/infer"
        self._labels = [int(label) for label in digits.labels]
        self._images = digits.images
        self._bodies: list[bytes] = []

    async def prepare(self, target: Target) -> None:
        """Ask the model what its input is called, and write all requests beforehand."""
        async with self._session.get(target.url) as response:
            response.raise_for_status()
            declared = (await response.json())["inputs"][0]
        for image in self._images:
            tensor = {
                "name": declared["name"],
                "datatype": declared["datatype"],
                "shape": [1, len(image)],
                "data": image.tolist(),
            }
            self._bodies.append(json.dumps({"inputs": [tensor]}).encode())

    async def ask(self, number: int) -> None:
        """Ask for one digit, and note how it went."""
        index = number % len(self._bodies)
        started = time.monotonic()
        status, version, revision, correct, error = 0, "", "", False, ""
        try:
            async with self._session.post(self._url, data=self._bodies[index]) as response:
                status = response.status
                version = response.headers.get(VERSION, "")
                revision = response.headers.get(REVISION, "")
                body = await response.read()
            if status == OK:
                correct = label_of(json.loads(body)) == self._labels[index]
            else:
                error = body[:200].decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError) as problem:
            status, error = 0, f"{type(problem).__name__}: {problem}"
        latency_ms = (time.monotonic() - started) * 1000
        self.seen.append(Sample(started, latency_ms, status, version, revision, correct, error))

    def report(self) -> None:
        """Print the samples since the last report."""
        seen, self.seen = self.seen, []
        if seen:
            print(json.dumps(seen), flush=True)

    async def ask_all(self, concurrency: int) -> None:
        """Ask for each digit once."""
        numbers = iter(range(len(self._bodies)))

        async def work() -> None:
            for number in numbers:
                await self.ask(number)

        await asyncio.gather(*(work() for _ in range(concurrency)))

    async def ask_steadily(self, rate: float, stop: asyncio.Event) -> None:
        """Ask ``rate`` times a second until told to stop.

        Answers are not waited for, until ``CONNECTIONS`` of them are missing: a machine too small
        for the rate gets a lower one instead of a queue that only grows.
        """
        running: set[asyncio.Task[None]] = set()
        due = reported = time.monotonic()
        number = 0
        while not stop.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(running) >= CONNECTIONS:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self.ask(number))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
            now = time.monotonic()
            due = max(due + 1 / rate, now - CATCH_UP_S)
            if now - reported >= REPORT_EVERY_S:
                self.report()
                reported = now
        if running:
            await asyncio.wait(running)


async def run(target: Target, digits: Digits, rate: float, concurrency: int) -> None:
    """Ask for every digit once, or steadily until standard input ends.

    Args:
        target: Where requests go.
        digits: What is asked for.
        rate: Requests a second; 0 asks for every digit once.
        concurrency: Requests at once, where each digit is asked for once.
    """
    stop = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    headers = {"Host": target.host, "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=60)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=headers
    ) as session:
        client = Client(session, target, digits)
        await client.prepare(target)
        if rate:
            _stop_with_stdin(asyncio.get_running_loop(), stop)
            await client.ask_steadily(rate, stop)
        else:
            await client.ask_all(concurrency)
        client.report()


def _stop_with_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Run the client."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proxy", required=True, help="address of the proxy, host:port")
    parser.add_argument("--host", required=True, help="host that the route is for")
    parser.add_argument("--model", required=True, help="served name")
    parser.add_argument("--digits", required=True, type=Path, help="file with the digits")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: all, once")
    parser.add_argument("--concurrency", type=int, default=4, help="requests at once")
    given = parser.parse_args()
    target = Target(given.proxy, given.host, given.model)
    asyncio.run(run(target, Digits.load(given.digits), given.rate, given.concurrency))


if __name__ == "__main__":
    main()
