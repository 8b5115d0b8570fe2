"""What the server does with the requests of one HTTP worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime.api.remote import REMOTE
from modelyard_runtime.workers.calls import RemoteCall
from modelyard_runtime.workers.channel import Channel
from modelyard_runtime.workers.messages import End, Gone, Listening, Open

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from modelyard_runtime.signature import Signature

_ASGI: Final = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}


class Link:
    """One worker as the server sees it: its channel, and the requests that came through it.

    Args:
        app: Answers; each scope holds the request's ``RemoteCall``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.ended = asyncio.Event()
        self.listening = asyncio.Event()
        self.channel = Channel(self._take, self._lost)
        self._app = app
        self._told: dict[tuple[str, str], Signature] = {}
        self._calls: dict[int, RemoteCall] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def _take(self, message: Any) -> None:
        if isinstance(message, Open):
            call = self._calls[message.call] = RemoteCall(message.call, self.channel, self._told)
            task = asyncio.get_running_loop().create_task(self._answer(call, message.scope))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif isinstance(message, Listening):
            self.listening.set()
        elif (known := self._calls.get(message.call)) is not None:
            if isinstance(message, Gone):
                known.hang_up()
            else:
                known.settle(message)

    async def _answer(self, call: RemoteCall, scope: dict[str, Any]) -> None:
        try:
            await self._app({**_ASGI, **scope, REMOTE: call}, call.receive, call.send)
        finally:
            del self._calls[call.number]
            self.channel.send(End(call.number))

    def _lost(self) -> None:
        """Tell every request of the worker that its caller is gone."""
        for call in self._calls.values():
            call.hang_up()
        self.ended.set()
