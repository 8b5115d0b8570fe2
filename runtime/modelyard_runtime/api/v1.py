"""V1: ``GET /v1/models…`` and ``POST /v1/models/{model}[/versions/{version}]:predict``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from modelyard_runtime.api.callers import Reply
from modelyard_runtime.api.exchange import JSON_HEADERS
from modelyard_runtime.lifecycle import State
from modelyard_runtime.wire.v1 import decode_prediction, encode_prediction

if TYPE_CHECKING:
    from modelyard_runtime.api.exchange import Incoming
    from modelyard_runtime.call import Call
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.service import Service


class V1Format:
    """The prediction protocol of TensorFlow Serving and KServe."""

    protocol = "v1"

    async def respond(self, served: ServedModel, incoming: Incoming, call: Call) -> Reply:
        """Answer one prediction request.

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
        asked = decode_prediction(incoming.body, served.signature)
        call.decode_s = clock() - begun
        outputs = await served.answer(asked.question, call)
        computed = clock()
        body = encode_prediction(asked, outputs, served.signature)
        call.encode_s = clock() - computed
        return Reply(body, JSON_HEADERS)


def build_v1_router(service: Service) -> APIRouter:
    """Build the routes that list models.

    Args:
        service: Whose models.

    Returns:
        Routes below ``/v1``.

    References:
        KServe, "V1 Inference Protocol": "List Models", "Model Ready".
    """
    router = APIRouter(prefix="/v1")

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """List the models that answer."""
        return {"models": sorted({served.name for served in service.repository.served})}

    @router.get("/models/{model}")
    @router.get("/models/{model}/versions/{version}")
    async def model_ready(model: str, version: str | None = None) -> dict[str, Any]:
        """Tell whether traffic for a model should come here."""
        served = service.model(model, version)
        return {"name": served.name, "ready": service.lifecycle.state is State.READY}

    return router
