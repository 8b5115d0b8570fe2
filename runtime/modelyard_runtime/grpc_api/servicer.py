"""What the RPCs do."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from modelyard_runtime import __version__
from modelyard_runtime.call import Call, apply_parameters, shorten
from modelyard_runtime.errors import ClientGoneError, NotFoundError, RequestError, TooLargeError
from modelyard_runtime.extensions import EXTENSIONS
from modelyard_runtime.grpc_api import inference_pb2 as pb
from modelyard_runtime.grpc_api.statuses import STATUS, trailers
from modelyard_runtime.lifecycle import State
from modelyard_runtime.request_ids import accepted_request_id
from modelyard_runtime.wire.grpc_v2 import decode_request, encode_answer, parameters_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from modelyard_runtime.admission import Admission
    from modelyard_runtime.service import Service

_log = structlog.stdlib.get_logger(__name__)

_CLIENT_CLOSED: Final = 499
_STREAM_AHEAD: Final = 64
"""Requests of one stream that may be inside at once; they share batches, answers keep their order."""


class Servicer:
    """The RPCs of ``GRPCInferenceService``, named as in the proto file.

    Args:
        service: Whose models answer.
        http_status: The HTTP status of each error, which metrics count by.
    """

    def __init__(self, service: Service, http_status: Callable[[RequestError], int]) -> None:
        self._service = service
        self._http_status = http_status

    # --- health and metadata -----------------------------------------------------------------

    async def ServerLive(self, request: Any, context: Any) -> pb.ServerLiveResponse:  # noqa: ARG002, N802
        """Answer that the process runs, and that no engine is stuck."""
        return pb.ServerLiveResponse(live=self._service.stalled is None)

    async def ServerReady(self, request: Any, context: Any) -> pb.ServerReadyResponse:  # noqa: ARG002, N802
        """Answer whether traffic should come here."""
        return pb.ServerReadyResponse(ready=self._service.ready)

    async def ModelReady(  # noqa: N802
        self, request: pb.ModelReadyRequest, context: Any
    ) -> pb.ModelReadyResponse:
        """Answer whether traffic for a model should come here."""
        del context
        try:
            self._service.model(request.name, request.version or None)
        except NotFoundError:
            raise
        except RequestError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._service.lifecycle.state is State.READY)

    async def ServerMetadata(self, request: Any, context: Any) -> pb.ServerMetadataResponse:  # noqa: ARG002, N802
        """Name the server and the extensions that it speaks."""
        return pb.ServerMetadataResponse(
            name="modelyard", version=__version__, extensions=EXTENSIONS
        )

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: Any
    ) -> pb.ModelMetadataResponse:
        """Describe a model's inputs and outputs."""
        del context
        served = self._service.model(request.name, request.version or None)
        versions = self._service.repository.versions(request.name)
        return pb.ModelMetadataResponse(**served.metadata(versions))

    async def ModelConfig(  # noqa: N802
        self, request: pb.ModelConfigRequest, context: Any
    ) -> pb.ModelConfigResponse:
        """Tell how a model is set up."""
        del context
        served = self._service.model(request.name, request.version or None)
        return pb.ModelConfigResponse(config=pb.ModelConfig(**served.config()))

    async def ModelStatistics(  # noqa: N802
        self, request: pb.ModelStatisticsRequest, context: Any
    ) -> pb.ModelStatisticsResponse:
        """Tell what one model, or every model, has done."""
        del context
        if request.name:
            models = [self._service.model(request.name, request.version or None)]
        else:
            models = self._service.repository.served
        return pb.ModelStatisticsResponse(
            model_stats=[served.statistics_document() for served in models]
        )

    # --- repository --------------------------------------------------------------------------

    async def RepositoryIndex(  # noqa: N802
        self, request: pb.RepositoryIndexRequest, context: Any
    ) -> pb.RepositoryIndexResponse:
        """List the models with their states."""
        del context
        rows = self._service.repository.index(ready_only=request.ready)
        return pb.RepositoryIndexResponse(models=rows)

    async def RepositoryModelLoad(  # noqa: N802
        self, request: pb.RepositoryModelLoadRequest, context: Any
    ) -> pb.RepositoryModelLoadResponse:
        """Load a model, or load it again."""
        del context
        self._service.repository.require_control()
        await self._service.repository.reload(request.model_name, tuple(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(  # noqa: N802
        self, request: pb.RepositoryModelUnloadRequest, context: Any
    ) -> pb.RepositoryModelUnloadResponse:
        """Take a model out."""
        del context
        self._service.repository.require_control()
        await self._service.repository.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    # --- inference ---------------------------------------------------------------------------

    async def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, context: Any
    ) -> pb.ModelInferResponse:
        """Answer one inference request."""
        call = self._call(context)
        await context.send_initial_metadata(self._metadata(call))
        return await self._infer(request, context, call)

    async def ModelStreamInfer(  # noqa: N802
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Any
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Answer each request of a stream; an error answers its own request and ends nothing."""
        try:  # a stream of strangers ends before it begins
            await self._service.admission.authenticate(_lookup(context))
        except RequestError as error:
            await context.abort(STATUS[type(error)], str(error), trailers(error))
        await context.send_initial_metadata(self._metadata(self._call(context)))
        asked: asyncio.Queue[asyncio.Task[pb.ModelStreamInferResponse] | None]
        asked = asyncio.Queue(_STREAM_AHEAD)

        async def read() -> None:
            async for request in requests:
                await asked.put(asyncio.create_task(self._stream_one(request, context)))
            await asked.put(None)

        reading = asyncio.create_task(read())
        try:
            while (task := await asked.get()) is not None:
                yield await task
            await reading
        finally:
            reading.cancel()
            while not asked.empty():
                left = asked.get_nowait()
                if left is not None:
                    left.cancel()

    async def _stream_one(
        self, request: pb.ModelInferRequest, context: Any
    ) -> pb.ModelStreamInferResponse:
        try:
            answer = await self._infer(request, context, self._call(context))
        except RequestError as error:
            # The id tells the client which of its requests this was.
            failed = pb.ModelInferResponse(
                model_name=request.model_name, model_version=request.model_version, id=request.id
            )
            return pb.ModelStreamInferResponse(error_message=str(error), infer_response=failed)
        if parameters_of(request.parameters).get("triton_enable_empty_final_response"):
            answer.parameters["triton_final_response"].bool_param = True
        return pb.ModelStreamInferResponse(infer_response=answer)

    async def _infer(
        self, request: pb.ModelInferRequest, context: Any, call: Call
    ) -> pb.ModelInferResponse:
        service = self._service
        code = _CLIENT_CLOSED
        ended: BaseException | None = None
        try:
            await service.admission.enter(call, _lookup(context))
            answer = await self._answer(request, call)
            code = 200
        except RequestError as error:
            ended, code = error, self._http_status(error)
            raise
        except asyncio.CancelledError:
            ended = ClientGoneError()
            raise
        except Exception as error:
            ended, code = error, 500
            raise
        finally:
            service.admission.leave(call)
            service.journal.finish(call, code, ended)
        return answer

    async def _answer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        clock = time.perf_counter
        limit = self._service.directives.current.max_body_bytes
        with self._service.model(request.model_name, request.model_version or None) as served:
            call.served = served
            shorten(call, served.timeout_s)
            begun = clock()
            if request.ByteSize() > limit:
                raise TooLargeError(f"the message is larger than {limit} bytes")
            asked = decode_request(request, served.signature)
            apply_parameters(asked.question.parameters, call)
            call.decode_s = clock() - begun
            outputs = await served.answer(asked.question, call)
            computed = clock()
            answer = encode_answer(served, asked, outputs)
            call.encode_s = clock() - computed
            return answer

    def _metadata(self, call: Call) -> tuple[tuple[str, str], ...]:
        """Say what every HTTP answer says in its headers."""
        settings = self._service.settings
        return (
            ("x-modelyard-revision", settings.revision),
            ("x-modelyard-model-version", settings.model_version),
            ("x-request-id", call.request_id),
        )

    def _call(self, context: Any) -> Call:
        left = context.time_remaining()
        return Call(
            request_id=accepted_request_id(_lookup(context)("x-request-id")),
            protocol="grpc",
            started=time.perf_counter(),
            deadline=math.inf if left is None else time.monotonic() + left,
            source=_address(context.peer()),
        )


def closed(
    behaviour: Callable[[Any, Any], Awaitable[Any]], admission: Admission
) -> Callable[[Any, Any], Awaitable[Any]]:
    """Ask who comes before an RPC tells anything of a model.

    Args:
        behaviour: The RPC.
        admission: Knows who may come in.

    Returns:
        The RPC, which may raise what ``Admission.authenticate`` raises.
    """

    async def run(request: Any, context: Any) -> Any:
        await admission.authenticate(_lookup(context))
        return await behaviour(request, context)

    return run


def guarded(behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Any]:
    """Answer a unary RPC's errors with their status; whatever else happens is logged.

    Args:
        behaviour: The RPC.

    Returns:
        The RPC, which raises nothing of ours.
    """

    async def run(request: Any, context: Any) -> Any:
        try:
            return await behaviour(request, context)
        except RequestError as error:
            await context.abort(STATUS[type(error)], str(error), trailers(error))
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception:  # noqa: BLE001 - the root of all RPCs; logged and answered
            _log.exception("rpc failed")
            await context.abort(grpc.StatusCode.INTERNAL, "an internal error occurred")

    return run


def _lookup(context: Any) -> Callable[[str], str | None]:
    def find(name: str) -> str | None:
        for key, value in context.invocation_metadata() or ():
            if key == name:
                return value if isinstance(value, str) else value.decode("latin-1")
        return None

    return find


def _address(peer: str) -> str:
    """``ipv4:127.0.0.1:5000`` → ``127.0.0.1``."""
    with contextlib.suppress(ValueError):
        _, rest = peer.split(":", 1)
        return rest.rsplit(":", 1)[0].strip("[]")
    return peer
