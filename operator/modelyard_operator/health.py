"""The operator's HTTP endpoints: ``/livez``, ``/readyz`` and, on a port of its own, ``/metrics``."""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from modelyard_operator.store import Key

RECONCILE_LIMIT_S: Final = 300.0
"""A reconcile that takes longer hangs; a restart costs no write."""


@dataclass
class Health:
    """What the probes answer.

    Attributes:
        ready: The store is complete and the workers run.
    """

    ready: bool = False
    _running: dict[Key, float] = field(default_factory=dict)

    def begin(self, key: Key, at: float) -> None:
        """Note that a reconcile begins; ``at`` is monotonic time in seconds."""
        self._running[key] = at

    def end(self, key: Key) -> None:
        """Note that a reconcile has ended."""
        self._running.pop(key, None)

    @property
    def alive(self) -> bool:
        """Whether no reconcile hangs."""
        oldest = min(self._running.values(), default=None)
        return oldest is None or time.monotonic() - oldest < RECONCILE_LIMIT_S

    @contextlib.asynccontextmanager
    async def serve(self, http_port: int, metrics_port: int) -> AsyncIterator[None]:
        """Serve the endpoints; the names of the ports are those of the chart."""
        health = web.Application()
        health.router.add_get("/livez", self._livez)
        health.router.add_get("/readyz", self._readyz)
        metrics = web.Application()
        metrics.router.add_get("/metrics", _metrics)
        async with contextlib.AsyncExitStack() as stack:
            for app, port in ((health, http_port), (metrics, metrics_port)):
                runner = web.AppRunner(app, access_log=None)
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                await web.TCPSite(runner, port=port).start()
            yield

    async def _livez(self, _: web.Request) -> web.Response:
        return _answer(ok=self.alive)

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(ok=self.ready and self.alive)


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(*, ok: bool) -> web.Response:
    return web.Response(text="ok" if ok else "not ok", status=200 if ok else 503)
