"""``POST /predict/{model}[/versions/{version}]``: for ``curl`` and a browser's form."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from modelyard_runtime.api.callers import Reply
from modelyard_runtime.api.exchange import JSON_HEADERS
from modelyard_runtime.errors import InvalidInputError, UnsupportedMediaError
from modelyard_runtime.wire.images import decode_image
from modelyard_runtime.wire.npy import decode_npy, encode_npy
from modelyard_runtime.wire.plain import decode_plain, decode_text, encode_plain
from modelyard_runtime.wire.rows import question_of

if TYPE_CHECKING:
    from modelyard_runtime.api.exchange import Incoming
    from modelyard_runtime.call import Call
    from modelyard_runtime.engine.protocol import Arrays, TensorSpec
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.signature import Signature

_NPY: Final = b"application/x-npy"
_JSON_TYPES: Final = frozenset({b"", b"application/json", b"application/x-www-form-urlencoded"})
"""``curl -d`` says that it sends a form."""
_IMAGES: Final = frozenset({b"image/png", b"image/jpeg", b"image/jpg"})
_SPOKEN: Final = "application/json, application/x-npy, image/png, image/jpeg or text/plain"


class PredictFormat:
    """Whatever the content type says: rows in JSON, an array, a picture or a text."""

    protocol = "predict"

    async def respond(self, served: ServedModel, incoming: Incoming, call: Call) -> Reply:
        """Answer one request.

        Args:
            served: The model.
            incoming: The request.
            call: Its journey.

        Returns:
            The answer: JSON, or an npy file for a caller that accepts one.

        Raises:
            RequestError: See the tree in ``errors.py``.
        """
        clock = time.perf_counter
        begun = clock()
        signature = served.signature
        as_npy = _NPY in (incoming.header(b"accept") or b"").lower()
        if as_npy and len(signature.outputs) != 1:
            raise InvalidInputError(
                f"an npy file holds one array, the model gives {len(signature.outputs)}; "
                "accept application/json"
            )
        arrays, bare = await _decode(incoming, signature)
        question = question_of(arrays, signature)
        call.decode_s = clock() - begun
        outputs = await served.answer(question, call)
        computed = clock()
        if as_npy:
            reply = Reply(encode_npy(outputs[0]), [(b"content-type", _NPY)])
        else:
            reply = Reply(encode_plain(signature, outputs, bare=bare), JSON_HEADERS)
        call.encode_s = clock() - computed
        return reply


async def _decode(incoming: Incoming, signature: Signature) -> tuple[Arrays, bool]:
    """Read the body; True beside it: it is one row, not a list of them."""
    content_type = (incoming.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    body = incoming.body
    if content_type in _JSON_TYPES:
        return decode_plain(body, signature)
    if content_type == _NPY:
        return (decode_npy(body, _only(signature, "an npy file")),), False
    if content_type == b"text/plain":
        return (decode_text(body, _only(signature, "a text")),), True
    if content_type in _IMAGES:
        spec = _only(signature, "a picture")
        # Pillow lets go of the interpreter while it decodes.
        return (await asyncio.to_thread(decode_image, body, spec, limit=incoming.limit),), True
    raise UnsupportedMediaError(
        f"content-type {content_type[:60].decode('latin-1')!r} is not read here, send {_SPOKEN}"
    )


def _only(signature: Signature, what: str) -> TensorSpec:
    if len(signature.inputs) != 1:
        raise InvalidInputError(f"{what} is one input, the model takes {len(signature.inputs)}")
    return signature.inputs[0]
