"""The worker's side: an ASGI app that does with each request what the server says."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime.api.callers import packed, read_body
from modelyard_runtime.api.inference import header_length_of, reply_of
from modelyard_runtime.api.problems import send_bytes
from modelyard_runtime.engine.process_protocol import Failure
from modelyard_runtime.errors import ClientGoneError, RequestError
from modelyard_runtime.wire.rest_v2 import decode_request, encode_answer
from modelyard_runtime.workers.messages import (
    Decode,
    Decoded,
    Encoded,
    End,
    Failed,
    Gone,
    Open,
    Receive,
    Received,
    Send,
    Sent,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.types import Receive as AsgiReceive
    from starlette.types import Scope
    from starlette.types import Send as AsgiSend

    from modelyard_runtime.signature import Signature
    from modelyard_runtime.wire.rest_v2 import RestQuestion
    from modelyard_runtime.workers.channel import Channel

_PASSED_ON: Final = (
    "method",
    "path",
    "raw_path",
    "query_string",
    "headers",
    "client",
    "server",
    "scheme",
    "http_version",
    "root_path",
)


class Forwarder:
    """Sends each request to the server, and does what the server says.

    Args:
        channel: To the server.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._numbers = itertools.count()
        self._calls: dict[int, _Call] = {}
        self._signatures: dict[tuple[str, str], Signature] = {}

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer one request.

        Args:
            scope: The connection.
            receive: Its incoming messages.
            send: Its outgoing messages.
        """
        number = next(self._numbers)
        call = self._calls[number] = _Call(number, self._channel, scope["headers"], receive, send)
        passed_on = {name: scope[name] for name in _PASSED_ON if name in scope}
        self._channel.send(Open(number, passed_on))
        try:
            await call.run()
        except BaseException:
            self._channel.send(Gone(number))
            raise
        finally:
            del self._calls[number]

    def take(self, message: Any) -> None:
        """Take what the server says about a request.

        Args:
            message: One of ``messages``.
        """
        if isinstance(message, Decode):
            which = message.name, message.version
            if message.signature is None:
                message = message._replace(signature=self._signatures[which])
            else:
                self._signatures[which] = message.signature
        call = self._calls.get(message.call)
        if call is not None:  # else the caller has hung up
            call.told.put_nowait(message)


class _Call:
    """One request."""

    def __init__(
        self,
        number: int,
        channel: Channel,
        headers: list[tuple[bytes, bytes]],
        receive: AsgiReceive,
        send: AsgiSend,
    ) -> None:
        self.told: asyncio.Queue[Any] = asyncio.Queue()
        self._number = number
        self._channel = channel
        self._headers = headers
        self._receive = receive
        self._send = send
        self._reading: asyncio.Task[None] | None = None
        self._model: _Named | None = None
        self._asked: RestQuestion | None = None

    async def run(self) -> None:
        """Follow the server until it says that the request is done."""
        try:
            while not isinstance(message := await self.told.get(), End):
                if isinstance(message, Receive):
                    self._read(self._pass_on())
                elif isinstance(message, Decode):
                    self._read(self._decode(message))
                elif message.outputs is not None:
                    await self._answer(message)
                else:
                    await self._send(message.message)
                    if message.message.get("more_body"):
                        self._channel.send(Sent(self._number))
        finally:
            if self._reading is not None:
                self._reading.cancel()

    def _read(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for the caller beside the server, who may end the request meanwhile."""
        self._reading = asyncio.get_running_loop().create_task(work)

    async def _pass_on(self) -> None:
        self._channel.send(Received(self._number, dict(await self._receive())))

    async def _decode(self, message: Decode) -> None:
        if message.signature is None:
            raise TypeError("the forwarder puts in what the server leaves out")
        try:
            body = await read_body(self._headers, self._receive, message.limit)
            begun = time.perf_counter()
            asked = decode_request(body, message.signature, header_length_of(self._headers))
        except RequestError as error:
            self._channel.send(Failed(self._number, Failure.of(error, ())))
        except ClientGoneError:
            self._channel.send(Failed(self._number, None))
        else:
            self._asked = asked
            self._model = _Named(message.name, message.version, message.signature)
            question = asked.question._replace(parameters=dict(asked.question.parameters))
            seconds = time.perf_counter() - begun
            self._channel.send(Decoded(self._number, question, seconds))

    async def _answer(self, message: Send) -> None:
        """Encode the outputs, and put the body to the head that the server has written."""
        begun = time.perf_counter()
        model, asked, outputs = self._model, self._asked, message.outputs
        if model is None or asked is None or outputs is None:
            raise TypeError("the server sends outputs to those alone whom it has asked to decode")
        try:
            reply = reply_of(*encode_answer(model, asked, outputs))
        except RequestError as error:
            self._channel.send(Failed(self._number, Failure.of(error, ())))
            return
        seconds = time.perf_counter() - begun
        headers = [*reply.headers, *message.message["headers"]]
        body, headers = await packed(self._headers, reply._replace(headers=headers))
        await send_bytes(self._send, 200, body, headers)
        self._channel.send(Encoded(self._number, seconds, model.metrics.not_finite))


class _Named:
    """What encoding must know of the model."""

    def __init__(self, name: str, version: str, signature: Signature) -> None:
        self.name = name
        self.version = version
        self.signature = signature
        self.metrics = _Noted()


class _Noted:
    def __init__(self) -> None:
        self.not_finite = 0

    def invalid_output(self) -> None:
        self.not_finite += 1
