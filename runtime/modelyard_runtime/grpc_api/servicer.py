"""What the RPCs do."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from modelyard_runtime import __version__
from modelyard_runtime.call import Call, apply_parameters, shorten
from modelyard_runtime.errors import ClientGoneError, NotFoundError, RequestError
from modelyard_runtime.extensions import EXTENSIONS
from modelyard_runtime.grpc_api import inference_pb2 as pb
from modelyard_runtime.grpc_api.statuses import STATUS, trailers
from modelyard_runtime.grpc_api.streaming import side_by_side
from modelyard_runtime.lifecycle import State
from modelyard_runtime.request_ids import accepted_request_id
from modelyard_runtime.wire.grpc_v2 import decode_request, encode_answer, encode_part

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from modelyard_runtime.admission import Admission
    from modelyard_runtime.grpc_api.messages import Received
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.service import Service
    from modelyard_runtime.wire.grpc_v2 import GrpcQuestion

_log = structlog.stdlib.get_logger(__name__)

_CLIENT_CLOSED: Final = 499
_FINAL: Final = "triton_final_response"
_INTERNAL: Final = "an internal error occurred"


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
        self, received: Received, context: Any
    ) -> pb.ModelInferResponse:
        """Answer one inference request."""
        call = self._call(context)
        await context.send_initial_metadata(self._metadata(call))
        async with self._counted(call, context):
            return await self._answer(received.opened(), call)

    async def ModelStreamInfer(  # noqa: N802
        self, requests: AsyncIterator[Received], context: Any
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Answer each request of a stream; an error answers its own request and ends nothing."""
        try:  # a stream of strangers ends before it begins
            await self._service.admission.authenticate(_lookup(context))
        except RequestError as error:
            await context.abort(STATUS[type(error)], str(error), trailers(error))
        await context.send_initial_metadata(self._metadata(self._call(context)))

        def answers_of(received: Received) -> AsyncGenerator[pb.ModelStreamInferResponse]:
            return self._stream_one(received, context)

        def in_turn(received: Received) -> bool:
            return self._answers_once(received.message)

        async with aclosing(side_by_side(requests, answers_of, in_turn)) as answers:
            async for answer in answers:
                yield answer

    def _answers_once(self, request: pb.ModelInferRequest) -> bool:
        try:
            served = self._service.model(request.model_name, request.model_version or None)
        except RequestError:
            return True
        return not served.hooks.streams

    async def _stream_one(
        self, received: Received, context: Any
    ) -> AsyncGenerator[pb.ModelStreamInferResponse]:
        """Answer one request of a stream, as Triton tells parts and their end."""
        request = received.message
        once = self._answers_once(request)
        try:
            async with aclosing(self._parts(received, context)) as parts:
                async for part in parts:
                    part.parameters[_FINAL].bool_param = once
                    yield pb.ModelStreamInferResponse(infer_response=part)
        except RequestError as error:
            yield _failed(request, str(error))
        except Exception:  # noqa: BLE001 - the root of this request; logged and answered
            _log.exception("rpc failed")
            yield _failed(request, _INTERNAL)
        if not once and _flag(request, "triton_enable_empty_final_response"):
            end = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
            end.parameters[_FINAL].bool_param = True
            yield pb.ModelStreamInferResponse(infer_response=end)

    async def _parts(
        self, received: Received, context: Any
    ) -> AsyncGenerator[pb.ModelInferResponse]:
        call = self._call(context)
        async with self._counted(call, context):
            request = received.opened()
            with self._model(request, call) as served:
                asked = self._decoded(request, served, call)
                async with aclosing(served.stream(asked.question, call)) as parts:
                    async for named in parts:
                        computed = time.perf_counter()
                        part = encode_part(served, asked, named)
                        call.encode_s += time.perf_counter() - computed
                        yield part

    async def _answer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        with self._model(request, call) as served:
            asked = self._decoded(request, served, call)
            outputs = await served.answer(asked.question, call)
            computed = time.perf_counter()
            answer = encode_answer(served, asked, outputs)
            call.encode_s = time.perf_counter() - computed
            return answer

    @asynccontextmanager
    async def _counted(self, call: Call, context: Any) -> AsyncGenerator[None]:
        """Let a request in, and tell the journal how it ends."""
        service = self._service
        code = _CLIENT_CLOSED
        ended: BaseException | None = None
        try:
            await service.admission.enter(call, _lookup(context))
            yield
            code = 200
        except RequestError as error:
            ended, code = error, self._http_status(error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            ended = ClientGoneError()
            raise
        except Exception as error:
            ended, code = error, 500
            raise
        finally:
            service.admission.leave(call)
            service.journal.finish(call, code, ended)

    def _model(self, request: pb.ModelInferRequest, call: Call) -> ServedModel:
        served = self._service.model(request.model_name, request.model_version or None)
        call.served = served
        shorten(call, served.timeout_s)
        return served

    def _decoded(
        self, request: pb.ModelInferRequest, served: ServedModel, call: Call
    ) -> GrpcQuestion:
        begun = time.perf_counter()
        asked = decode_request(request, served.signature)
        apply_parameters(asked.question.parameters, call)
        call.decode_s = time.perf_counter() - begun
        return asked

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
            await context.abort(grpc.StatusCode.INTERNAL, _INTERNAL)

    return run


def _failed(request: pb.ModelInferRequest, message: str) -> pb.ModelStreamInferResponse:
    """Say what went wrong; the id tells the client with which of its requests."""
    answer = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
    return pb.ModelStreamInferResponse(error_message=message, infer_response=answer)


def _flag(request: pb.ModelInferRequest, name: str) -> bool:
    return name in request.parameters and request.parameters[name].bool_param


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
