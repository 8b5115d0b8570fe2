"""The short way to the data plane: for requests that need nothing of what ASGI is for.

A request whose head and body have come in one piece, and whose answer leaves in one, needs no messages
in between. What the outermost ASGI layer does for all others is done here for these.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from modelyard_runtime.api.edge import revision_headers, strip_prefix
from modelyard_runtime.api.exchange import DataEndpoint
from modelyard_runtime.api.stickiness import cookie_to_set
from modelyard_runtime.lifecycle import State
from modelyard_runtime.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.api.problems import Headers
    from modelyard_runtime.api.routes import DataRoutes
    from modelyard_runtime.http_protocol import WholeRequest
    from modelyard_runtime.service import Service

_log = structlog.stdlib.get_logger(__name__)

_KNOWN_URLS: Final = 256
"""URLs whose endpoint is remembered; others are looked up again."""


class Target(NamedTuple):
    """What a URL means.

    Attributes:
        endpoint: Answers.
        path: What the braces of its route hold.
    """

    endpoint: DataEndpoint
    path: Mapping[str, str]


class Lane:
    """Leads whole requests to their endpoints.

    Args:
        routes: The data plane.
        service: Whose directives, revision and state are used.
    """

    def __init__(self, routes: DataRoutes, service: Service) -> None:
        self._routes = routes
        self._service = service
        self._find = functools.lru_cache(_KNOWN_URLS)(self._target)
        self.headers: Final = b"".join(
            b"%b: %b\r\n" % header for header in revision_headers(service.settings)
        )
        """What every answer says, as it is written."""
        self.outbox: Final = Outbox()

    @property
    def draining(self) -> bool:
        """Whether connections are to be closed behind their answers."""
        return self._service.lifecycle.state is State.DRAINING

    def cookie_to_set(self, headers: Headers, status: int) -> bytes | None:
        """Look up the cookie that an answer gives to its client.

        Args:
            headers: Of the request.
            status: Of the answer.

        Returns:
            A value of ``Set-Cookie``; None: nothing.
        """
        return cookie_to_set(self._service.directives.current, headers, status)

    def find(self, url: bytes) -> Target | None:
        """Look up what a POST means.

        Args:
            url: As the request line has it.

        Returns:
            Its endpoint; None: not a thing for this way.
        """
        return self._find(url, self._service.directives.current.path_prefix)

    async def serve(self, target: Target, request: WholeRequest) -> None:
        """Answer one request, whatever happens; the root of its task.

        Args:
            target: What it asks for.
            request: The request.
        """
        try:
            await target.endpoint.answer(request)
        except Exception:  # noqa: BLE001 - the root of all request handling; logged and answered
            _log.exception("request failed", request_id=request.request_id)
            await request.fail()

    def _target(self, url: bytes, prefix: str) -> Target | None:
        if b"%" in url or not url.startswith(b"/"):
            return None
        path = url.partition(b"?")[0].decode("latin-1")
        found = self._routes.match(strip_prefix(path, prefix))
        if found is None or not isinstance(found[0], DataEndpoint) or found[0].streams:
            return None
        return Target(found[0], found[1])
