"""Measure the runtime beside a bare server and a naive one, in one run, and write the table.

    python benchmarks/runtime/bench.py [--seconds 8] [--rounds 3]

Needs ``wrk``. Absolute figures belong to one machine on one day; the ratios are what counts.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE.parent / "results" / "runtime.md"
CONNECTIONS: Final = (1, 16, 64)
START_S: Final = 120
PACKAGES: Final = ("torch", "scikit-learn", "fastapi", "uvicorn", "uvloop", "orjson", "numpy")
_MS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Contestant:
    """One server under load.

    Attributes:
        name: For the table.
        command: Starts it on a port.
        path: Where inference is.
        body: The request, as JSON.
        env: Further environment.
    """

    name: str
    command: tuple[str, ...]
    path: str
    body: str
    env: dict[str, str]


@dataclass(frozen=True)
class Load:
    """What wrk saw, and what the server spent.

    Attributes:
        rate: Requests per second.
        p50_ms: Half of the requests were faster, in milliseconds.
        p99_ms: All but one in a hundred were faster, in milliseconds.
        cpu_ms: Processor time of the server for one request, in milliseconds. It hardly moves when
            other programs use the machine, which the other figures do.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Server:
    """A running contestant.

    Attributes:
        url: Where inference is.
        process_id: Of the one process.
        start_s: Time to the first right answer, in seconds.
    """

    url: str
    process_id: int
    start_s: float


@contextmanager
def started(contestant: Contestant) -> Iterator[Server]:
    """Run a server until it has answered, and end it afterwards."""
    port = free_port()
    command = [part.replace("PORT", str(port)) for part in contestant.command]
    begun = time.monotonic()
    process = subprocess.Popen(
        command,
        env={
            **os.environ,
            "MODELYARD_METRICS_PORT": "0",
            "MODELYARD_THREADS": "1",
            "PYTHONPATH": str(HERE),
            **contestant.env,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}{contestant.path}"
    try:
        while True:
            try:
                ask(url, contestant.body)
                break
            except (urllib.error.URLError, ConnectionError):
                if process.poll() is not None or time.monotonic() - begun > START_S:
                    raise SystemExit(f"{contestant.name} does not start") from None
                time.sleep(0.02)
        yield Server(url, process.pid, time.monotonic() - begun)
    finally:
        process.kill()
        process.wait()


def ask(url: str, body: str) -> None:
    """Send one request; any answer but 200 raises."""
    request = urllib.request.Request(  # noqa: S310 - our own server
        url, body.encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        answer.read()


def cpu_s(process_id: int) -> float:
    """Read the processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(server: Server, body: str, *, connections: int, seconds: int) -> Load:
    """Put a closed loop of connections on a server with wrk."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f'wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\n'
            f"wrk.body = [==[{body}]==]\n"
        )
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout=20s"]
        before = cpu_s(server.process_id)
        text = subprocess.run(
            [*command, "-s", script.name, server.url], check=True, capture_output=True, text=True
        ).stdout
        spent = cpu_s(server.process_id) - before
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"errors under load:\n{text}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    count = re.search(r"(\d+) requests in", text)
    tail = dict(re.findall(r"(50|99)%\s+([\d.]+(?:us|ms|s))", text))
    if rate is None or count is None or set(tail) != {"50", "99"}:
        raise SystemExit(f"wrk said something else:\n{text}")
    return Load(
        float(rate[1]),
        milliseconds(tail["50"]),
        milliseconds(tail["99"]),
        1000 * spent / int(count[1]),
    )


def milliseconds(text: str) -> float:
    """Read one of wrk's durations."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * _MS[unit]


def make_models(folder: Path) -> list[Contestant]:
    """Write the models and say who serves them."""
    import joblib  # noqa: PLC0415 - only where models are made
    import torch  # noqa: PLC0415
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Linear(128, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 10),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            layers.eval(),
            (torch.zeros(2, 128),),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )
        torch.export.save(program, folder / "mlp.pt2")
    digits = load_digits()
    joblib.dump(
        LogisticRegression(max_iter=200).fit(digits.data, digits.target), folder / "digits.joblib"
    )
    row = torch.rand(128).tolist()
    digit = digits.data[0].tolist()
    tensor = {"name": program.graph_signature.user_inputs[0], "datatype": "FP32"}
    mlp = json.dumps({"inputs": [{**tensor, "shape": [1, 128], "data": row}]})
    pixels = json.dumps(
        {"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, 64], "data": digit}]}
    )
    uvicorn = (
        sys.executable,
        "-m",
        "uvicorn",
        "--port",
        "PORT",
        "--log-level",
        "critical",
        "--no-access-log",
        "--factory",
    )
    serve = (sys.executable, "-m", "modelyard_runtime", "serve", "--port", "PORT")
    return [
        Contestant("bare uvicorn hello", (*uvicorn, "servers:create_hello"), "/", mlp, {}),
        Contestant(
            "naive FastAPI + torch, MLP",
            (*uvicorn, "servers:create_naive"),
            "/infer",
            json.dumps({"data": [row]}),
            {"BENCH_MODEL": str(folder / "mlp.pt2")},
        ),
        Contestant(
            "modelyard, MLP (TorchExport)",
            (*serve, str(folder / "mlp.pt2")),
            "/v2/models/mlp/infer",
            mlp,
            {},
        ),
        Contestant(
            "modelyard, digits (Sklearn)",
            (*serve, str(folder / "digits.joblib")),
            "/v2/models/digits/infer",
            pixels,
            {"MODELYARD_ALLOW_PICKLE": "true"},
        ),
    ]


def measure(
    contestants: list[Contestant], *, seconds: int, rounds: int, console: Console
) -> tuple[dict[str, dict[int, Load]], dict[str, float]]:
    """Measure everybody in every round, in another order each; return medians."""
    loads: dict[str, dict[int, list[Load]]] = {
        c.name: {n: [] for n in CONNECTIONS} for c in contestants
    }
    starts: dict[str, list[float]] = {c.name: [] for c in contestants}
    for turn in range(rounds):
        shift = turn % len(contestants)
        for contestant in contestants[shift:] + contestants[:shift]:
            console.print(f"round {turn + 1} of {rounds}: {contestant.name}")
            with started(contestant) as server:
                starts[contestant.name].append(server.start_s)
                load(server, contestant.body, connections=16, seconds=1)
                for connections in CONNECTIONS:
                    seen = load(server, contestant.body, connections=connections, seconds=seconds)
                    loads[contestant.name][connections].append(seen)
    middle = {
        name: {
            n: Load(
                median(x.rate for x in seen),
                median(x.p50_ms for x in seen),
                median(x.p99_ms for x in seen),
                median(x.cpu_ms for x in seen),
            )
            for n, seen in by_connections.items()
        }
        for name, by_connections in loads.items()
    }
    return middle, {name: median(seen) for name, seen in starts.items()}


def rows_of(figures: dict[str, dict[int, Load]], starts: dict[str, float]) -> list[tuple[str, ...]]:
    """Turn the medians into the table's rows; the first contestant is the limit."""
    limit, naive = list(figures.values())[:2]
    rows = []
    for name, by_connections in figures.items():
        rates = [f"{by_connections[n].rate:,.0f}" for n in CONNECTIONS]
        latencies = [
            f"{by_connections[n].p50_ms:.2f} / {by_connections[n].p99_ms:.1f}" for n in CONNECTIONS
        ]
        of_limit = by_connections[64].rate / limit[64].rate
        of_naive = by_connections[64].rate / naive[64].rate
        rows.append(
            (
                name,
                *rates,
                *latencies,
                f"{of_limit:.2f}",
                f"{of_naive:.1f}",
                f"{by_connections[64].cpu_ms:.3f}",
                f"{starts[name]:.1f}",
            )
        )
    return rows


def main() -> None:
    """Run the benchmark and write ``benchmarks/results/runtime.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="of load per figure")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk)")
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        figures, starts = measure(
            make_models(Path(folder)),
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            console=console,
        )
    heads = (
        "server",
        *(f"req/s c{n}" for n in CONNECTIONS),
        *(f"p50/p99 ms c{n}" for n in CONNECTIONS),
        "c64 / hello",
        "c64 / naive",
        "CPU ms/req c64",
        "start s",
    )
    rows = rows_of(figures, starts)
    table = Table(*heads)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    busy = os.getloadavg()[0]
    text = (
        "# The runtime under load\n\n"
        f"`python benchmarks/runtime/bench.py --seconds {arguments.seconds} "
        f"--rounds {arguments.rounds}`: medians, closed loop, JSON bodies, one process each, one "
        "compute thread; wrk shares the processors. Read the ratios.\n\n"
        f"{os.cpu_count()} processors, load average {busy:.1f} at the end, Python "
        f"{platform.python_version()}, {versions}.\n\n"
        f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n"
    )
    text += "".join(f"| {' | '.join(row)} |\n" for row in rows)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
    console.print(f"written: {RESULTS.name}")


if __name__ == "__main__":
    main()
