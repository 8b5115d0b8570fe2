"""``POST /v2/models/{model}[/versions/{version}]/infer``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from modelyard_runtime.api.exchange import Reply
from modelyard_runtime.errors import InvalidInputError, MalformedRequestError
from modelyard_runtime.wire.rest_v2 import decode_request, encode_answer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from modelyard_runtime.api.exchange import Incoming
    from modelyard_runtime.api.problems import Headers
    from modelyard_runtime.call import Call
    from modelyard_runtime.inference import ServedModel

_JSON: Final[Headers] = [(b"content-type", b"application/json")]
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
        asked = decode_request(incoming.body, served.signature, _header_length(incoming))
        if asked.question.parameters:
            apply_parameters(asked.question.parameters, call)
        call.decode_s = clock() - begun
        outputs = await served.answer(asked.question, call)
        computed = clock()
        body, header_length = encode_answer(served, asked, outputs)
        call.encode_s = clock() - computed
        if not header_length:
            return Reply(body, _JSON)
        return Reply(
            body,
            [(b"content-type", b"application/octet-stream"), (_LENGTH, b"%d" % header_length)],
        )


def apply_parameters(parameters: Mapping[str, Any], call: Call) -> None:
    """Note the request parameters that the protocol reserves.

    Args:
        parameters: ``timeout`` in microseconds, which only shortens the server's; ``priority``.
        call: The request's journey.

    Raises:
        InvalidInputError: One of them is not a number of at least 0.

    References:
        Triton, "Schedule Policy Extension".
    """
    for word in ("timeout", "priority"):
        value = parameters.get(word, 0)
        if type(value) is not int or value < 0:
            raise InvalidInputError(
                f"parameter {word!r} must be an integer of at least 0, got {str(value)[:40]}"
            )
    if timeout := parameters.get("timeout"):
        elapsed = time.perf_counter() - call.started
        call.deadline = min(call.deadline, time.monotonic() - elapsed + timeout / 1e6)
    call.priority = parameters.get("priority", 0)


def _header_length(incoming: Incoming) -> int | None:
    value = incoming.header(_LENGTH)
    if value is None:
        return None
    if not value.isdigit():
        raise MalformedRequestError(
            f"Inference-Header-Content-Length must be a number, got {value[:40]!r}"
        )
    return int(value)
