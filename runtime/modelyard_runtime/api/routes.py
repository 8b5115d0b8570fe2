"""Which endpoint of the data plane a path means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from modelyard_runtime.api.exchange import DataEndpoint
from modelyard_runtime.api.generate import GenerateFormat, GenerateStreamFormat
from modelyard_runtime.api.inference import InferFormat
from modelyard_runtime.api.predict import PredictFormat
from modelyard_runtime.api.problems import send_problem
from modelyard_runtime.api.v1 import V1Format
from modelyard_runtime.errors import NotFoundError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from modelyard_runtime.service import Service

_V2: Final = "/v2/models/"
_V1: Final = "/v1/models/"
_PREDICT: Final = "/predict/"


class DataRoutes:
    """The paths of the data plane.

    A router would compile them and try each; here a few slices find the one, which a tiny model's
    requests notice.

    Args:
        service: Whose models answer.
    """

    def __init__(self, service: Service) -> None:
        self.infer: ASGIApp = DataEndpoint(service, InferFormat())
        self._v2: dict[str, ASGIApp] = {
            "infer": self.infer,
            "generate": DataEndpoint(service, GenerateFormat()),
            "generate_stream": DataEndpoint(service, GenerateStreamFormat(), streams=True),
        }
        self._v1: dict[str, ASGIApp] = {"predict": DataEndpoint(service, V1Format())}
        self._predict: ASGIApp = DataEndpoint(service, PredictFormat())

    def find(self, scope: Scope) -> ASGIApp | None:
        """Match a path and note the model that it names.

        Args:
            scope: The connection; ``path_params`` is set when an endpoint is found.

        Returns:
            The endpoint; None: the path is not of the data plane.
        """
        found = self.match(scope["path"])
        if found is None:
            return None
        endpoint, scope["path_params"] = found
        return endpoint

    def match(self, path: str) -> tuple[ASGIApp, dict[str, str]] | None:
        """Match a path.

        Args:
            path: Without the prefix of the route.

        Returns:
            The endpoint and the model that the path names; None: it is not of the data plane.
        """
        endpoint: ASGIApp | None = None
        if path.startswith(_V2):
            holder, _, verb = path[len(_V2) :].rpartition("/")
            endpoint = self._v2.get(verb)
        elif path.startswith(_V1):
            holder, colon, verb = path[len(_V1) :].rpartition(":")
            endpoint = self._v1.get(verb, _unknown_verb) if colon else None
        elif path.startswith(_PREDICT):
            holder = path[len(_PREDICT) :]
            endpoint = self._predict
        if endpoint is None:
            return None
        name, *rest = holder.split("/")
        if name and not rest:
            return endpoint, {"model": name}
        if name and len(rest) == 2 and rest[0] == "versions":  # noqa: PLR2004 - versions/{version}
            return endpoint, {"model": name, "version": rest[1]}
        return None


async def _unknown_verb(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer ``:explain`` and the like, which would read as a model's name further on."""
    del receive
    error = NotFoundError(f"there is no {scope['path'][:200]!r}")
    await send_problem(send, error, scope["modelyard.request_id"])
