"""The server's side of one request that came through an HTTP worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from modelyard_runtime.errors import ClientGoneError
from modelyard_runtime.workers.messages import (
    Decode,
    Decoded,
    Encoded,
    Failed,
    Receive,
    Received,
    Send,
)

if TYPE_CHECKING:
    from starlette.types import Message

    from modelyard_runtime.engine.protocol import Arrays
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.signature import Signature
    from modelyard_runtime.workers.channel import Channel


class RemoteCall:
    """A request whose connection is in a worker; its methods are what ASGI calls them.

    Args:
        number: Its number in the worker.
        channel: To the worker.
        told: Name and version → the signature that the worker was last told; changed.
    """

    def __init__(
        self, number: int, channel: Channel, told: dict[tuple[str, str], Signature]
    ) -> None:
        self.number = number
        self._channel = channel
        self._told = told
        self._gone = False
        self._message: asyncio.Future[dict[str, Any]] | None = None
        self._reply: asyncio.Future[Any] | None = None

    async def receive(self) -> Message:
        """Pass on what the caller sends.

        Returns:
            An ASGI message.
        """
        if self._gone:
            return {"type": "http.disconnect"}
        if self._message is None:  # else somebody asked for it, and then did not wait
            self._message = asyncio.get_running_loop().create_future()
            self._channel.send(Receive(self.number))
        message: Message = await asyncio.shield(self._message)
        self._message = None
        return message

    async def send(self, message: Message) -> None:
        """Write to the caller; a part of a stream waits until the connection has taken it.

        Args:
            message: An ASGI message.
        """
        outputs: Arrays | None = message.pop("modelyard.outputs", None)
        if message.get("more_body"):
            await self._ask(Send(self.number, dict(message)))
            return
        if outputs is not None:
            self._reply = asyncio.get_running_loop().create_future()
        self._channel.send(Send(self.number, dict(message), outputs))

    async def decode(self, served: ServedModel, limit: int) -> Decoded:
        """Have the worker read and decode the body.

        Args:
            served: The model that is asked.
            limit: Most bytes that the body may have.

        Returns:
            Its content.

        Raises:
            RequestError: It is not for this model.
            ClientGoneError: The caller hung up.
        """
        which, signature = (served.name, served.version), served.signature
        news = None if self._told.get(which) is signature else signature
        self._told[which] = signature
        decoded: Decoded = await self._ask(Decode(self.number, limit, *which, news))
        return decoded

    async def encoded(self) -> Encoded:
        """Wait until the worker has encoded what was sent with ``modelyard.outputs``.

        Returns:
            What it took.

        Raises:
            NonFiniteOutputError: JSON cannot say them; nothing has been written.
            ClientGoneError: The caller hung up.
        """
        if self._reply is None or self._gone:
            raise ClientGoneError
        reply: Encoded = await self._reply
        return reply

    def settle(self, message: Any) -> None:
        """Take what the worker says about the request.

        Args:
            message: Any but ``Open``.
        """
        if isinstance(message, Received):
            self._gone = message.message["type"] == "http.disconnect"
            _set(self._message, message.message)
        elif isinstance(message, Failed):
            failure = message.failure
            _fail(self._reply, ClientGoneError() if failure is None else failure.error())
        else:
            _set(self._reply, message)

    def hang_up(self) -> None:
        """Note that nobody waits any more: the worker, or the connection, is gone."""
        self._gone = True
        _set(self._message, {"type": "http.disconnect"})
        _fail(self._reply, ClientGoneError())

    async def _ask(self, message: Any) -> Any:
        if self._gone:
            raise ClientGoneError
        self._reply = asyncio.get_running_loop().create_future()
        self._channel.send(message)
        return await self._reply


def _set(future: asyncio.Future[Any] | None, value: object) -> None:
    if future is not None and not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any] | None, error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
