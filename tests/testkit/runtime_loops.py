"""A runtime in an event loop of its own, asked from any other."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modelyard_runtime.app import create_app
from modelyard_runtime.service import Service
from modelyard_runtime.settings import RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import ASGIApp


class ElsewhereApp:
    """An ASGI app that runs in another loop than its callers.

    A tool that makes a loop for every request can thus ask a model that lives in one.

    Args:
        app: The app.
        loop: Where it runs.
    """

    def __init__(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._loop = loop

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Collect the request here, run the app there, and give its answer here."""
        if scope["type"] != "http":  # the service begins and ends with the context below
            raise NotImplementedError
        incoming = [await receive()]
        while incoming[-1].get("more_body"):
            incoming.append(await receive())
        answer = asyncio.run_coroutine_threadsafe(self._run(scope, incoming), self._loop)
        for message in await asyncio.wrap_future(answer):
            await send(message)

    async def _run(self, scope: Any, incoming: list[Any]) -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            if incoming:
                return incoming.pop(0)
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return sent


@contextmanager
def serving_elsewhere(path: Path, **settings: Any) -> Iterator[ElsewhereApp]:
    """Serve a model in a thread's event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="runtime")
    thread.start()
    values = {"model_name": "m", "model_path": path, "threads": 1, **settings}
    service = Service(RuntimeSettings(**values))
    try:
        asyncio.run_coroutine_threadsafe(service.start(), loop).result(30)
        yield ElsewhereApp(create_app(service), loop)
    finally:
        service.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
