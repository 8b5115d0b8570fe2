"""``POST /v2/models/{model}[/versions/{version}]/infer``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from modelyard_runtime.api.callers import Reply
from modelyard_runtime.api.exchange import JSON_HEADERS
from modelyard_runtime.api.headers import header_of, number_of
from modelyard_runtime.call import apply_parameters
from modelyard_runtime.errors import MalformedRequestError
from modelyard_runtime.wire.rest_v2 import decode_request, encode_answer

if TYPE_CHECKING:
    from modelyard_runtime.api.exchange import Incoming
    from modelyard_runtime.call import Call
    from modelyard_runtime.inference import ServedModel

_LENGTH: Final = b"inference-header-content-length"


class InferFormat:
    """Open Inference Protocol V2 over REST."""

    protocol = "rest"

    async def respond(self, served: ServedModel, incoming: Incoming, call: Call) -> Reply:
        """Answer one inference request.

        Args:
            served: The model.
            incoming: The request.
            call: Its journey.

        Returns:
            The answer.

        Raises:
            RequestError: See the tree in ``errors.py``.
        """
        clock = time.perf_counter
        begun = clock()
        length = header_length_of(incoming.headers)
        asked = decode_request(incoming.body, served.signature, length)
        if asked.question.parameters:
            apply_parameters(asked.question.parameters, call)
        call.decode_s = clock() - begun
        outputs = await served.answer(asked.question, call)
        computed = clock()
        reply = reply_of(*encode_answer(served, asked, outputs))
        call.encode_s = clock() - computed
        return reply


def reply_of(body: bytes, header_length: int) -> Reply:
    """Put an answer's headers to its body.

    Args:
        body: JSON, and binary tensors behind it.
        header_length: Bytes of JSON; 0 when it is JSON as a whole.

    Returns:
        The answer.
    """
    if not header_length:
        return Reply(body, JSON_HEADERS)
    return Reply(
        body, [(b"content-type", b"application/octet-stream"), (_LENGTH, b"%d" % header_length)]
    )


def header_length_of(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Read how much of a body is JSON.

    Args:
        headers: Of the request.

    Returns:
        Bytes of JSON; None: all of it.

    Raises:
        MalformedRequestError: The header is not a number.

    References:
        Triton, "Binary Tensor Data Extension".
    """
    value = header_of(headers, _LENGTH)
    if value is None:
        return None
    length = number_of(value)
    if length is None:
        raise MalformedRequestError(
            f"Inference-Header-Content-Length must be a number, got {value[:40]!r}"
        )
    return length
