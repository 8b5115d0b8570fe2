"""What beside the data plane is open to everybody, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from modelyard_runtime.api.headers import lookup
from modelyard_runtime.api.problems import send_problem
from modelyard_runtime.errors import RequestError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from modelyard_runtime.admission import Admission

_OPEN: Final = frozenset({"/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"})
"""A kubelet has no key, and the documentation says nothing of the models that are served."""


class Closed:
    """Asks who comes before anything of a model is told.

    Args:
        app: What is closed.
        admission: Knows who may come in.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection.

        Args:
            scope: The connection.
            receive: Its incoming messages.
            send: Its outgoing messages.
        """
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            try:
                await self._admission.authenticate(lookup(scope["headers"]))
            except RequestError as error:
                await send_problem(send, error, scope["modelyard.request_id"])
                return
        await self._app(scope, receive, send)
