"""Inference requests of which an HTTP worker reads and writes the bodies.

Who may ask, which model answers, limits, deadlines, the queue and the records stay here, in the same
code that serves requests of this process's own connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime.api.callers import AsgiCaller
from modelyard_runtime.api.exchange import CACHE_HIT, DataEndpoint
from modelyard_runtime.api.inference import InferFormat
from modelyard_runtime.api.routes import DataRoutes
from modelyard_runtime.call import apply_parameters

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from modelyard_runtime.api.callers import Caller, Reply
    from modelyard_runtime.call import Call
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.service import Service
    from modelyard_runtime.workers.calls import RemoteCall

REMOTE: Final = "modelyard.remote"
"""Key of the ASGI scope that holds the ``RemoteCall``."""
OUTPUTS: Final = "modelyard.outputs"
"""Key of an ASGI ``http.response.start`` that holds what the worker is to encode."""


class RemoteRoutes(DataRoutes):
    """The data plane of requests that come through workers."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._service = service

    def find(self, scope: Scope) -> ASGIApp | None:
        """Match a path, as ``DataRoutes``.

        Args:
            scope: The connection, with the request's ``RemoteCall``.

        Returns:
            The endpoint; that of ``infer`` leaves decoding and encoding to the worker.
        """
        endpoint = super().find(scope)
        if endpoint is self.infer:
            return RemoteEndpoint(self._service, scope[REMOTE])
        return endpoint


class RemoteEndpoint(DataEndpoint):
    """One inference request.

    Args:
        service: Whose models answer.
        remote: The request's connection.
    """

    def __init__(self, service: Service, remote: RemoteCall) -> None:
        super().__init__(service, InferFormat())
        self._remote = remote

    def _caller(self, scope: Scope, receive: Receive, send: Send) -> AsgiCaller:
        self._asgi = AsgiCaller(scope, receive, send)  # an endpoint of this kind has one request
        return self._asgi

    async def _respond(self, caller: Caller, call: Call, served: ServedModel) -> Reply | None:
        del caller
        limit = self._service.directives.current.max_body_bytes
        _, question, call.decode_s = await self._remote.decode(served, limit)
        self._asgi.body_read()
        if question.parameters:
            apply_parameters(question.parameters, call)
        outputs = await served.answer(question, call)
        start: dict[str, Any] = {
            "type": "http.response.start",
            "status": 200,
            "headers": [CACHE_HIT] if call.cached else [],
            OUTPUTS: outputs,
        }
        await self._asgi.send(start)
        encoded = await self._remote.encoded()
        call.encode_s = encoded.seconds
        for _ in range(encoded.not_finite):
            served.metrics.invalid_output()
        return None
