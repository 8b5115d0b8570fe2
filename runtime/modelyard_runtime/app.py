"""Wiring: one FastAPI app, and the data plane in front of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from modelyard_runtime.api.closed import Closed
from modelyard_runtime.api.documentation import build_documentation_router
from modelyard_runtime.api.edge import Edge
from modelyard_runtime.api.health import build_router
from modelyard_runtime.api.problems import internal_problem, problem_body, send_problem
from modelyard_runtime.api.repository import build_repository_router
from modelyard_runtime.api.routes import DataRoutes
from modelyard_runtime.api.v1 import build_v1_router
from modelyard_runtime.errors import RequestError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from modelyard_runtime.service import Service

_CODES = {404: "model_not_found", 405: "method_not_allowed"}


def create_app(service: Service, routes: DataRoutes | None = None) -> ASGIApp:
    """Build the app that serves port 8080.

    Args:
        service: The process's state and model.
        routes: The data plane; None: that of this process's own connections.

    Returns:
        A FastAPI app inside the outermost layer, beside the data plane.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    # Before the routes with {model}: "stats" is no model.
    app.include_router(build_repository_router(service))
    app.include_router(build_router(service))
    app.include_router(build_v1_router(service))
    app.include_router(build_documentation_router(service))
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)  # the outermost layer logs it
    return Edge(Closed(app, service.admission), routes or DataRoutes(service), service)


async def _on_request_error(request: Request, error: Exception) -> Response:
    return _ProblemResponse(error, request.scope["modelyard.request_id"])


class _ProblemResponse(Response):
    """Lets FastAPI's endpoints answer errors exactly like the hot route."""

    def __init__(self, error: Exception, request_id: str) -> None:
        super().__init__()
        self._error = error
        self._request_id = request_id

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        if isinstance(self._error, RequestError):
            await send_problem(send, self._error, self._request_id)


async def _on_bug(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    body = internal_problem(request.scope["modelyard.request_id"])
    return Response(body, 500, media_type="application/json")


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Give the framework's own errors (no such path, wrong method) the common shape."""
    if not isinstance(error, HTTPException):
        raise error
    status = error.status_code
    message = f"there is no {request.scope['path'][:200]!r}" if status == 404 else error.detail  # noqa: PLR2004
    body = problem_body(
        message, _CODES.get(status, "http_error"), request.scope["modelyard.request_id"]
    )
    return Response(body, status, headers=error.headers, media_type="application/json")
