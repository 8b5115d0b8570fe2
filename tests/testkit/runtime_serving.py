"""Running runtimes for tests: in this event loop, or as a process with real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import httpx

from modelyard_runtime.api.problems import STATUS
from modelyard_runtime.app import create_app
from modelyard_runtime.config import read_config
from modelyard_runtime.grpc_api.server import GrpcServer
from modelyard_runtime.loading import load_models
from modelyard_runtime.service import Service
from modelyard_runtime.settings import RuntimeSettings
from testkit.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from modelyard_runtime.loading import Loaded


@asynccontextmanager
async def serving(path: Path, **settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    """Serve a model in this event loop."""
    values = {"model_name": "m", "model_path": path, "threads": 1, **settings}
    service = Service(RuntimeSettings(**values))
    await service.start()
    try:
        async with client_of(service) as client:
            yield client, service
    finally:
        service.close()
        if ending := {task for task in asyncio.all_tasks() if task.cancelling()}:
            await asyncio.wait(ending)


def client_of(service: Service) -> httpx.AsyncClient:
    """Return a client that calls the app without sockets."""
    transport = httpx.ASGITransport(app=create_app(service))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def loaded_from(place: Path, **settings: Any) -> Loaded:
    """Load the one version of a model that is not served."""
    values = {"model_path": place, "threads": 1, "device": "CPU", **settings}
    of_process = RuntimeSettings(**values)
    config = read_config(place, of_process)
    (loaded,) = load_models(place, of_process, config, lambda _version: _uncounted)
    return loaded


def _uncounted(name: str, amount: float) -> None:
    del name, amount


@asynccontextmanager
async def grpc_channel(service: Service) -> AsyncIterator[Any]:
    """Open a gRPC port for a service of this event loop, and a channel to it."""
    server = GrpcServer(service, lambda error: STATUS[type(error)])
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel
    finally:
        await server.stop(0)


@dataclass
class Running:
    """A runtime process."""

    process: subprocess.Popen[bytes]
    termination_log: Path
    log: Path
    http: str = ""
    metrics: str = ""
    grpc: str = ""

    def status(self) -> dict[str, Any]:
        """Return the status document."""
        with urllib.request.urlopen(f"{self.metrics}/status", timeout=5) as answer:  # noqa: S310
            document: dict[str, Any] = json.load(answer)
        return document

    def wait_for(self, state: str, timeout_s: float = 120) -> None:
        """Wait for a state, or say why it will not come."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the runtime ended: {self.log.read_text()}")
            try:
                if self.status()["state"] == state:
                    return
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.02)
        raise AssertionError(f"never {state}: {self.log.read_text()}")

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def last_word(self) -> dict[str, Any]:
        """Return the termination message."""
        document: dict[str, Any] = json.loads(self.termination_log.read_text())
        return document


@contextmanager
def running(
    folder: Path, *arguments: str, module: str = "modelyard_runtime", **environment: str
) -> Iterator[Running]:
    """Run a program of the runtime as a process, and end it."""
    http, grpc, metrics = free_ports(3)
    termination_log = folder / "termination-log"
    termination_log.touch()
    log = folder / "log"
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")},
        "MODELYARD_HTTP_HOST": "127.0.0.1",
        "MODELYARD_HTTP_PORT": str(http),
        "MODELYARD_GRPC_PORT": str(grpc),
        "MODELYARD_METRICS_PORT": str(metrics),
        "MODELYARD_TERMINATION_LOG": str(termination_log),
        **{f"MODELYARD_{k.upper()}": v for k, v in environment.items()},
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env=env, stdout=out, stderr=out
        )
    try:
        yield Running(
            process,
            termination_log,
            log,
            f"http://127.0.0.1:{http}",
            f"http://127.0.0.1:{metrics}",
            f"127.0.0.1:{grpc}",
        )
    finally:
        process.kill()
        process.wait()
