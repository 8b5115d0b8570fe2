"""The routes that list, load and unload models, and tell how they are set up and what they did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request

from modelyard_runtime.errors import InvalidInputError, MalformedRequestError

if TYPE_CHECKING:
    from modelyard_runtime.repository import Repository
    from modelyard_runtime.service import Service


def build_repository_router(service: Service) -> APIRouter:
    """Build the routes of the repository, configuration and statistics extensions.

    Args:
        service: What they ask about.

    Returns:
        Routes below ``/v2``.

    References:
        Triton, "Model Repository Extension", "Model Configuration Extension", "Statistics Extension".
    """
    router = APIRouter(prefix="/v2")
    _add_control(router, service.repository)
    _add_documents(router, service)
    return router


def _add_control(router: APIRouter, repository: Repository) -> None:
    @router.post("/repository/index")
    async def index(request: Request) -> list[dict[str, str]]:
        """List the models of the repository with their states."""
        ready = (await _document(request)).get("ready", False)
        if type(ready) is not bool:
            raise InvalidInputError(f"'ready' must be true or false, got {str(ready)[:40]!r}")
        return repository.index(ready_only=ready)

    @router.post("/repository/models/{model}/load")
    async def load(model: str, request: Request) -> dict[str, Any]:
        """Load a model, or load it again: the new one is warm before the old one drains."""
        repository.require_control()
        parameters = (await _document(request)).get("parameters") or {}
        if type(parameters) is not dict:
            raise MalformedRequestError("'parameters' must be an object")
        await repository.reload(model, parameters)
        return {}

    @router.post("/repository/models/{model}/unload")
    async def unload(model: str, request: Request) -> dict[str, Any]:
        """Take a model out once those who wait for it have their answers."""
        repository.require_control()
        await _document(request)
        await repository.unload(model)
        return {}


def _add_documents(router: APIRouter, service: Service) -> None:
    @router.get("/models/stats")
    async def all_statistics() -> dict[str, Any]:
        """Tell what every model has done."""
        documents = [served.statistics_document() for served in service.repository.served]
        return {"model_stats": documents}

    @router.get("/models/{model}/stats")
    @router.get("/models/{model}/versions/{version}/stats")
    async def statistics(model: str, version: str | None = None) -> dict[str, Any]:
        """Tell what a model has done."""
        return {"model_stats": [service.model(model, version).statistics_document()]}

    @router.get("/models/{model}/config")
    @router.get("/models/{model}/versions/{version}/config")
    async def config(model: str, version: str | None = None) -> dict[str, Any]:
        """Tell how a model is set up."""
        return service.model(model, version).config()


async def _document(request: Request) -> dict[str, Any]:
    """Read an optional JSON object, whatever the content type."""
    body = await request.body()
    if not body.strip():
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError(f"the body is not JSON: {error}") from None
    if type(document) is not dict:
        raise MalformedRequestError("the body must be a JSON object")
    return document
