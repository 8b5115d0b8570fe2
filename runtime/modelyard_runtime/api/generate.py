"""``POST /v2/models/{model}[/versions/{version}]/generate`` and ``/generate_stream``."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from modelyard_runtime.api.callers import Reply
from modelyard_runtime.api.events import EventStream
from modelyard_runtime.api.exchange import JSON_HEADERS
from modelyard_runtime.call import apply_parameters
from modelyard_runtime.wire.generate import decode_generate, encode_part

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from modelyard_runtime.api.exchange import Incoming
    from modelyard_runtime.call import Call
    from modelyard_runtime.inference import Question, ServedModel


class GenerateFormat:
    """Triton's generate extension, answered at once."""

    protocol = "generate"

    async def respond(self, served: ServedModel, incoming: Incoming, call: Call) -> Reply:
        """Answer one request.

        Args:
            served: The model.
            incoming: The request.
            call: Its journey.

        Returns:
            The answer.

        Raises:
            RequestError: See the tree in ``errors.py``.
        """
        question = _decode(served, incoming, call)
        outputs = await served.answer(question, call)
        computed = time.perf_counter()
        names = (spec.name for spec in served.signature.outputs)
        body = encode_part(served, question, dict(zip(names, outputs, strict=True)))
        call.encode_s = time.perf_counter() - computed
        return Reply(body, JSON_HEADERS)


class GenerateStreamFormat:
    """Triton's generate extension, answered in parts."""

    protocol = "generate"

    async def respond(self, served: ServedModel, incoming: Incoming, call: Call) -> EventStream:
        """Begin to answer one request.

        Args:
            served: The model.
            incoming: The request.
            call: Its journey.

        Returns:
            The answer; a model that does not stream gives one part.

        Raises:
            RequestError: See the tree in ``errors.py``.
        """
        question = _decode(served, incoming, call)
        idle_s = served.hooks.config.limits.stream_idle_ms / 1000
        return EventStream(_parts(served, question, call), idle_s)


def _decode(served: ServedModel, incoming: Incoming, call: Call) -> Question:
    begun = time.perf_counter()
    question = decode_generate(incoming.body, served.signature)
    apply_parameters(question.parameters, call)
    call.decode_s = time.perf_counter() - begun
    return question


async def _parts(served: ServedModel, question: Question, call: Call) -> AsyncGenerator[bytes]:
    async with aclosing(served.stream(question, call)) as parts:
        async for named in parts:
            yield encode_part(served, question, named)
