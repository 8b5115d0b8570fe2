"""The Open Inference Protocol's routes for health and metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from modelyard_runtime import __version__
from modelyard_runtime.errors import NotReadyError
from modelyard_runtime.extensions import EXTENSIONS
from modelyard_runtime.lifecycle import State

if TYPE_CHECKING:
    from modelyard_runtime.service import Service


def build_router(service: Service) -> APIRouter:
    """Build the routes that probes, clients and people ask now and then.

    Args:
        service: What they ask about.

    Returns:
        Routes for ``/v2``, ``/v2/health/…`` and ``/v2/models/…``.

    References:
        Open Inference Protocol, HTTP/REST, "Health", "Server Metadata", "Model Metadata".
    """
    router = APIRouter(prefix="/v2")

    @router.get("")
    @router.get("/")  # as the protocol's own description writes it
    async def server_metadata() -> dict[str, Any]:
        """Name the server and the extensions that it speaks."""
        return {"name": "modelyard", "version": __version__, "extensions": list(EXTENSIONS)}

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """Answer that the process runs, while it loads as well; 503 when an engine is stuck."""
        if (problem := service.stalled) is not None:
            raise NotReadyError(problem)
        return {"live": True}

    @router.get("/health/ready")
    async def ready() -> dict[str, bool]:
        """Answer whether traffic should come here; 503 while loading and while draining."""
        if not service.ready:
            raise NotReadyError(f"the server is {str(service.lifecycle.state).lower()}")
        return {"ready": True, "live": True}

    @router.get("/models/{model}")
    @router.get("/models/{model}/versions/{version}")
    async def model_metadata(model: str, version: str | None = None) -> dict[str, Any]:
        """Describe a model's inputs and outputs."""
        return service.model(model, version).metadata(service.repository.versions(model))

    @router.get("/models/{model}/ready")
    @router.get("/models/{model}/versions/{version}/ready")
    async def model_ready(model: str, version: str | None = None) -> dict[str, Any]:
        """Answer whether traffic for a model should come here."""
        served = service.model(model, version)
        if service.lifecycle.state is not State.READY:
            raise NotReadyError(f"the server is {str(service.lifecycle.state).lower()}")
        return {"name": served.name, "ready": True}

    return router
