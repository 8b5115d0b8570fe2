"""Sends copies after the caller has its answer: never waited for, never more than a few at a time."""

from __future__ import annotations

import asyncio
import hmac
import importlib
import random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog

from modelyard_runtime.shadow.agreement import agree
from modelyard_runtime.wire.rest_v2_client import LENGTH_HEADER, decode_answer, encode_question

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.call import Call
    from modelyard_runtime.directives import Directives, ShadowDirective
    from modelyard_runtime.engine.protocol import Array
    from modelyard_runtime.inference import Question, ServedModel
    from modelyard_runtime.metrics import RuntimeMetrics

HEADER: Final = "x-modelyard-shadow"
_CREDENTIALS: Final = ("authorization", "x-api-key")
_SENDERS: Final = 4
_MAX_WAITING: Final = 64
_MAX_BYTES: Final = 4 * 1024 * 1024
"""Of one copy; with those that wait, a quarter of a GiB at most."""
_TIMEOUT_S: Final = 30.0

_log = structlog.stdlib.get_logger(__name__)


class _Copy(NamedTuple):
    """What is sent, and what it is compared with."""

    served: ServedModel
    question: Question
    outputs: dict[str, Array]
    headers: dict[str, str]


class ShadowSender:
    """Copies a share of the answered requests to another revision, and counts who agrees.

    Args:
        metrics: Where the outcomes are counted.
        chance: Gives a number in [0, 1) for each request.
    """

    def __init__(
        self,
        metrics: RuntimeMetrics,
        chance: Callable[[], float] = random.random,  # noqa: S311 - a sample, not a secret
    ) -> None:
        self._metrics = metrics
        self._chance = chance
        self._directive: ShadowDirective | None = None
        self._token = ""
        self._waiting: asyncio.Queue[_Copy] = asyncio.Queue(_MAX_WAITING)
        self._senders: list[asyncio.Task[None]] = []

    def apply(self, directives: Directives) -> None:
        """Follow the directives.

        Args:
            directives: ``shadow`` says where copies go, ``shadowToken`` what marks those that come.
        """
        self._token = directives.shadow_token
        if directives.shadow == self._directive:
            return
        self.close()
        self._directive = directives.shadow
        if self._directive is not None and self._directive.percent > 0:
            loop = asyncio.get_running_loop()
            self._senders = [
                loop.create_task(self._send_all(self._directive)) for _ in range(_SENDERS)
            ]

    def is_copy(self, header: Callable[[str], str | None]) -> bool:
        """Tell whether a request is somebody else's copy.

        Args:
            header: Looks a request header up by its lower-case name.

        Returns:
            Whether it carries the right token; with a wrong one it is a request like any other.
        """
        given = header(HEADER)
        if given is None or not self._token:
            return False
        return hmac.compare_digest(given.encode(), self._token.encode())

    def offer(self, call: Call) -> None:
        """Copy an answered request, if its lot falls and there is room; returns at once.

        Args:
            call: The call; copies are not copied again.
        """
        directive, served = self._directive, call.served
        if not self._senders or directive is None or served is None or call.outputs is None:
            return
        if call.shadow or self._chance() * 100 >= directive.percent:
            return
        question: Question = call.question
        if self._waiting.full() or question.nbytes > _MAX_BYTES:
            self._metrics.shadow("dropped")
            return
        names = (spec.name for spec in served.signature.outputs)
        headers = {"x-request-id": call.request_id, HEADER: directive.token}
        if call.traceparent:
            headers["traceparent"] = call.traceparent
        for name in _CREDENTIALS:
            if call.header is not None and (value := call.header(name)) is not None:
                headers[name] = value
        outputs = dict(zip(names, call.outputs, strict=True))
        self._waiting.put_nowait(_Copy(served, question, outputs, headers))

    def close(self) -> None:
        """Stop sending; what still waits is not sent."""
        for task in self._senders:
            task.cancel()
        self._senders = []
        while not self._waiting.empty():
            self._waiting.get_nowait()
            self._metrics.shadow("dropped")

    async def _send_all(self, directive: ShadowDirective) -> None:
        """Send one copy after the other; the HTTP client is imported by those who need it."""
        aiohttp = importlib.import_module("aiohttp")
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                copy = await self._waiting.get()
                self._metrics.shadow("requests")
                try:
                    same = await _compared(session, directive.url, copy)
                except Exception as error:  # noqa: BLE001 - the task's root; counted and logged
                    # Where nobody was reached, as in the moments before a new Service leads to its
                    # pods, nobody has been asked: that says nothing of the candidate's answers.
                    unasked = isinstance(error, aiohttp.ClientConnectorError)
                    self._metrics.shadow("dropped" if unasked else "errors")
                    _log.info(
                        "a copy was not answered",
                        request_id=copy.headers["x-request-id"],
                        problem=f"{type(error).__name__}: {str(error)[:200]}",
                    )
                else:
                    self._metrics.shadow("agreements" if same else "disagreements")
                del copy  # its tensors must not live until the next one comes


async def _compared(session: Any, base: str, copy: _Copy) -> bool:
    body, length = encode_question(copy.served, copy.question)
    headers = {
        **copy.headers,
        LENGTH_HEADER: str(length),
        "content-type": "application/octet-stream",
    }
    url = f"{base.rstrip('/')}/v2/models/{copy.served.name}/infer"
    async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
        content = await answer.read()
        if answer.status != 200:  # noqa: PLR2004 - what an answer has
            raise ValueError(f"status {answer.status}")
        size = answer.headers.get(LENGTH_HEADER)
    return agree(copy.outputs, decode_answer(content, None if size is None else int(size)))
