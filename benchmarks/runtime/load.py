"""Load by ``wrk``: a closed loop of connections that send one body."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes import Request, Server

_MS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True)
class Load:
    """What wrk saw, and what the server spent.

    Attributes:
        rate: Requests per second.
        p50_ms: Half of the requests were faster, in milliseconds.
        p99_ms: All but one in a hundred were faster, in milliseconds.
        cpu_ms: Processor time of the server for one request, in milliseconds. It hardly moves when
            other programs use the machine, which the other figures do.
        errors: Answers that were not 2xx, broken connections and time-outs.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    errors: int


def middle(loads: Sequence[Load]) -> Load:
    """Return the medians of several rounds, and the sum of their errors."""
    return Load(
        median(each.rate for each in loads),
        median(each.p50_ms for each in loads),
        median(each.p99_ms for each in loads),
        median(each.cpu_ms for each in loads),
        sum(each.errors for each in loads),
    )


def ensure_wrk() -> None:
    """Install wrk where Debian's packages can be had.

    Raises:
        SystemExit: It is not there and cannot be installed.
    """
    if shutil.which("wrk") is not None:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk)")
    for words in (["update"], ["install", "-y", "--no-install-recommends", "wrk"]):
        subprocess.run(["apt-get", "-q", *words], check=True, stdout=subprocess.DEVNULL)


def load(server: Server, request: Request, *, connections: int, seconds: float) -> Load:
    """Put a server under load.

    Args:
        server: Who is asked.
        request: What for.
        connections: How many ask at a time.
        seconds: For how long.

    Returns:
        The figures.
    """
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder, "body"), Path(folder, "wrk.lua")
        body.write_bytes(request.body)
        headers = "".join(f'wrk.headers["{k}"] = "{v}"\n' for k, v in request.headers.items())
        script.write_text(
            f'wrk.method = "POST"\n{headers}wrk.body = io.open("{body}", "rb"):read("*a")\n'
        )
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency"]
        before = server.cpu_s()
        text = subprocess.run(
            [*command, "--timeout=20s", "-s", str(script), server.address + request.path],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        spent = server.cpu_s() - before
    return _read(text, spent)


def _read(text: str, spent_s: float) -> Load:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    count = re.search(r"(\d+) requests in", text)
    tail = dict(re.findall(r"(50|99)%\s+([\d.]+(?:us|ms|s|m))", text))
    if rate is None or count is None or set(tail) != {"50", "99"}:
        raise RuntimeError(f"wrk said something else:\n{text}")
    answered = max(int(count[1]), 1)
    return Load(
        float(rate[1]), _ms(tail["50"]), _ms(tail["99"]), 1000 * spent_s / answered, _errors(text)
    )


def _errors(text: str) -> int:
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: (.*)", text)
    counted = [int(refused[1])] if refused else []
    return sum([*counted, *map(int, re.findall(r"\d+", broken[1] if broken else ""))])


def _ms(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if found is None:
        raise RuntimeError(f"wrk said something else: {text}")
    return float(found[1]) * _MS[found[2]]
