"""The outermost layer: path prefix, request id, the headers that every answer carries.

It also leads requests to the data plane past FastAPI's own layers, which cost a fifth of what a tiny
model's request costs in all.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import structlog

from modelyard_runtime.api.headers import header_of
from modelyard_runtime.api.problems import internal_problem, send_json
from modelyard_runtime.api.stickiness import cookie_to_set
from modelyard_runtime.lifecycle import State
from modelyard_runtime.request_ids import accepted_request_id

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from modelyard_runtime.api.problems import Headers
    from modelyard_runtime.api.routes import DataRoutes
    from modelyard_runtime.service import Service
    from modelyard_runtime.settings import RuntimeSettings

_log = structlog.stdlib.get_logger(__name__)


class Edge:
    """Pure ASGI middleware around the whole app.

    Args:
        app: Answers everything but the data plane.
        routes: The data plane.
        service: Whose directives, revision and state are used.
    """

    def __init__(self, app: ASGIApp, routes: DataRoutes, service: Service) -> None:
        self._app = app
        self._routes = routes
        self._service = service
        self._headers = revision_headers(service.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection.

        Args:
            scope: The connection.
            receive: Its incoming messages.
            send: Its outgoing messages.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["modelyard.started"] = time.perf_counter()
        given = header_of(scope["headers"], b"x-request-id")
        request_id = accepted_request_id(None if given is None else given.decode("latin-1"))
        scope["modelyard.request_id"] = request_id
        prefix = self._service.directives.current.path_prefix
        if (path := strip_prefix(scope["path"], prefix)) != scope["path"]:
            scope["path"], scope["raw_path"] = path, path.encode()
        headers = [*self._headers, (b"x-request-id", request_id.encode("ascii"))]
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *headers]
                # Asked when the answer leaves: the drain may have begun in between.
                if self._service.lifecycle.state is State.DRAINING:
                    message["headers"].append((b"connection", b"close"))
                directives = self._service.directives.current
                if cookie := cookie_to_set(directives, scope["headers"], message["status"]):
                    message["headers"].append((b"set-cookie", cookie))
            await send(message)

        try:
            app = self._routes.find(scope) or self._app
            await app(scope, receive, send_with_headers)
        except Exception:  # noqa: BLE001 - the root of all request handling; logged and answered
            # If an answer has begun and is not complete, the server closes the connection.
            _log.exception("request failed", request_id=scope["modelyard.request_id"])
            if not started:
                body = internal_problem(scope["modelyard.request_id"])
                await send_json(send_with_headers, 500, body)


def revision_headers(settings: RuntimeSettings) -> Headers:
    """Say which revision answers.

    Args:
        settings: That name it.

    Returns:
        Headers of every answer.
    """
    return [
        (b"x-modelyard-revision", _header(settings.revision)),
        (b"x-modelyard-model-version", _header(settings.model_version)),
    ]


def strip_prefix(path: str, prefix: str) -> str:
    """Take the prefix of the route off a path.

    Args:
        path: As the caller wrote it.
        prefix: Of the directives; empty: there is none.

    Returns:
        The rest; the same where the path does not begin with it.
    """
    if prefix and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in {"", "/"}:
        return path[len(prefix) :] or "/"
    return path


def _header(value: str) -> bytes:
    """Make a setting fit for a header."""
    return re.sub(r"[^\x21-\x7e]", "_", value).encode("ascii")
