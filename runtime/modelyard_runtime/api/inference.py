"""``POST /v2/models/{model}[/versions/{version}]/infer``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from modelyard_runtime.api.exchange import Reply
from modelyard_runtime.errors import UnsupportedMediaError
from modelyard_runtime.wire.rest_v2 import decode_request, encode_answer

if TYPE_CHECKING:
    from modelyard_runtime.api.exchange import Incoming
    from modelyard_runtime.api.problems import Headers
    from modelyard_runtime.call import Call
    from modelyard_runtime.inference import ServedModel

_JSON: Final[Headers] = [(b"content-type", b"application/json")]


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
        for name, value in incoming.headers:
            if name == b"content-encoding" and value.lower() != b"identity":
                raise UnsupportedMediaError("content-encoding is not spoken here")
            if name == b"inference-header-content-length":
                raise UnsupportedMediaError(
                    "the binary tensor extension is not spoken here, send JSON tensors"
                )
        question = decode_request(incoming.body, served.signature)
        call.decode_s = clock() - begun
        outputs = await served.answer(question, call)
        computed = clock()
        body = encode_answer(served, question, outputs)
        call.encode_s = clock() - computed
        return Reply(body, _JSON)
