"""Operators of one's own, each behind a gate that counts its writes and can kill it at one.

The gate is an HTTP proxy in front of the API server. It kills when a write has been asked for and
before it is done, or when it has been done and before its answer is passed on: the two worst moments,
since nothing tells the next operator which of them it was.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

from testkit.cluster_api import credentials
from testkit.ports import free_ports

T = TypeVar("T")
FORKS: Final = multiprocessing.get_context("forkserver")
"""Each operator is a process of its own, but all of them share the seconds that imports take."""
FORKS.set_forkserver_preload(["modelyard_operator.__main__"])
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
READY_S: Final = 120.0
PASSED_ON: Final = ("Content-Type", "Accept")
LOCALHOST: Final = "127.0.0.1"


class Kill(NamedTuple):
    """When an operator meets its end.

    Attributes:
        number: Number of the write, from 1; 0 for never.
        committed: The write has been done; otherwise it never is.
    """

    number: int = 0
    committed: bool = True

    def __str__(self) -> str:
        return f"{'after' if self.committed else 'before'}-{self.number}"


NEVER: Final = Kill()


class Write(NamedTuple):
    """One write that the API server has answered."""

    at: float
    method: str
    path: str
    status: int


class Loop:
    """An event loop in a thread of its own, on which all gates run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result(READY_S)

    def close(self) -> None:
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Gate:
    """Passes requests on to the API server and keeps a list of the writes.

    Attributes:
        writes: Every write so far.
        kill: At which write, and at which moment of it, the operator is killed.
        slay: Kills it.
    """

    def __init__(self, kubeconfig: Path, kill: Kill, slay: Callable[[], None]) -> None:
        self.writes: list[Write] = []
        self.kill = kill
        self.slay = slay
        self._asked = 0
        self._server, self._tls = credentials(kubeconfig)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def open(self) -> int:
        """Begin to listen; returns the port."""
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOCALHOST, 0)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        if self._runner:
            await self._runner.cleanup()
        if self._session:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        url = URL(self._server + request.raw_path, encoded=True)
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        body = await request.read()
        is_write = request.method not in READS
        self._asked += is_write
        ends = is_write and self._asked == self.kill.number
        if ends and not self.kill.committed:
            self.slay()
            raise web.HTTPServiceUnavailable  # nobody hears it
        async with self._session.request(
            request.method, url, headers=headers, data=body or None
        ) as answer:
            kind = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
            if is_write:
                content = await answer.read()
                write = Write(time.time(), request.method, request.raw_path, answer.status)
                self.writes.append(write)
                if ends:
                    self.slay()
                return web.Response(status=answer.status, body=content, headers=kind)
            response = web.StreamResponse(status=answer.status, headers=kind)
            await response.prepare(request)
            with suppress(ConnectionError):  # the operator is gone
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            return response


@dataclass
class PrivateOperator:
    """An operator for one namespace, as a process of this machine.

    Attributes:
        loop: Where its gate runs.
        kubeconfig: The administrator's kubeconfig.
        env: What the chart gives to the operator.
        namespace: The only namespace that it watches.
        folder: For its kubeconfig and its log.
        kill: At which write it is killed.
    """

    loop: Loop
    kubeconfig: Path
    env: Mapping[str, str]
    namespace: str
    folder: Path
    kill: Kill = NEVER
    _gate: Gate = field(init=False)
    _process: ForkServerProcess = field(init=False)
    _health_port: int = 0

    def start(self) -> None:
        """Start it; does not wait."""
        self._gate = Gate(self.kubeconfig, self.kill, self._slay)
        port = self.loop.run(self._gate.open())
        name = f"{self.namespace}-{port}"
        config = self.folder / f"{name}.yaml"
        config.write_text(json.dumps(_kubeconfig(f"http://{LOCALHOST}:{port}")))
        self._health_port, metrics_port = free_ports(2)
        prefix = "MODELYARD_OPERATOR_"
        env = {
            **self.env,
            "KUBECONFIG": str(config),
            f"{prefix}NAMESPACES": json.dumps([self.namespace]),
            f"{prefix}POD_NAME": name,
            f"{prefix}HTTP_PORT": str(self._health_port),
            f"{prefix}METRICS_PORT": str(metrics_port),
        }
        log = self.folder / f"{name}.log"
        # A daemon: one that a test forgot would keep this process from ending.
        self._process = FORKS.Process(target=_be_operator, args=(env, log), daemon=True)
        self._process.start()

    @property
    def writes(self) -> list[Write]:
        return list(self._gate.writes)

    @property
    def killed(self) -> bool:
        """Whether it was killed at the write that it was to be killed at."""
        return self._process.exitcode == -signal.SIGKILL

    def until_started(self) -> None:
        """Wait until it has read what exists and works on it."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            assert self._process.is_alive(), f"see {self.folder}"
            with (
                suppress(OSError),
                socket.create_connection((LOCALHOST, self._health_port), 1) as s,
            ):
                s.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                if b" 200 " in s.recv(64):
                    return
            time.sleep(0.1)
        raise AssertionError(f"the operator of {self.namespace} does not start; see {self.folder}")

    def until_killed(self, timeout_s: float) -> None:
        self._process.join(timeout_s)

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.loop.run(self._gate.close())

    def _slay(self) -> None:
        self._process.kill()


async def _cancel_others() -> None:
    """End requests of operators that are no more."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _be_operator(env: Mapping[str, str], log: Path) -> None:
    """Become what `python -m modelyard_operator` is with an environment and a log."""
    from kubernetes.aio.config import kube_config  # noqa: PLC0415 -- imported by the fork server

    from modelyard_operator.__main__ import main  # noqa: PLC0415

    os.environ.update(env)
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = env["KUBECONFIG"]  # read when it was imported
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())
    main()


def _kubeconfig(server: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "gate",
        "clusters": [{"name": "gate", "cluster": {"server": server}}],
        "users": [{"name": "gate", "user": {}}],
        "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "gate"}}],
    }
