"""``grpc.health.v1``: what a kubelet, a mesh or a client's load balancer asks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from modelyard_runtime.errors import NotFoundError, RequestError
from modelyard_runtime.lifecycle import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from modelyard_runtime.service import Service

_POLL_S: Final = 0.5
_SERVICES: Final = frozenset({"", "inference.GRPCInferenceService"})
_Status: Final = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers for the server (no name, or the service's) and for each model by its name.

    Args:
        service: Whose state is told.

    References:
        GRPC Health Checking Protocol.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Tell the state once."""
        status = self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no {request.service[:80]!r}")
        return _Status(status=status)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802
        """Tell the state whenever it changes."""
        told = None
        while True:
            status = self._status(request.service)
            if status != told:
                told = status
                yield _Status(status=status)
            await asyncio.sleep(_POLL_S)

    def _status(self, name: str) -> Any:
        service = self._service
        if name in _SERVICES:
            ready = service.ready
        else:
            try:
                service.model(name, None)
                ready = service.lifecycle.state is State.READY
            except NotFoundError:
                return _Status.SERVICE_UNKNOWN
            except RequestError:
                ready = False
        return _Status.SERVING if ready else _Status.NOT_SERVING
