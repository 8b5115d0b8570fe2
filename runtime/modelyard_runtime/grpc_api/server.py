"""The gRPC port: listens, answers, drains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from modelyard_runtime.errors import port_taken
from modelyard_runtime.grpc_api import inference_pb2 as pb
from modelyard_runtime.grpc_api.health import HealthServicer
from modelyard_runtime.grpc_api.messages import opening, reader
from modelyard_runtime.grpc_api.servicer import Servicer, closed, guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.admission import Admission
    from modelyard_runtime.certificates import Certificates
    from modelyard_runtime.directives import Directives
    from modelyard_runtime.errors import RequestError
    from modelyard_runtime.service import Service

_log = structlog.stdlib.get_logger(__name__)

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_FRAMING_BYTES: Final = 1024 * 1024
"""Room beside the body limit, so that a message just over it gets our answer and not the library's."""
_COUNTED: Final = frozenset({"ModelInfer", "ModelStreamInfer"})
"""They open their messages themselves, so that a broken one is counted too."""
_LET_IN: Final = frozenset({"ServerLive", "ServerReady", "ModelInfer", "ModelStreamInfer"})
"""Health is open to everybody; inference asks for credentials itself, and counts who has none."""
_MOST_BYTES: Final = 2**31 - 1


class GrpcServer:
    """Serves the Open Inference Protocol, health and reflection, on a port for TLS as well if there is one.

    Args:
        service: Whose models answer.
        http_status: The HTTP status of each error, which metrics count by.
    """

    def __init__(self, service: Service, http_status: Callable[[RequestError], int]) -> None:
        settings = service.settings

        def limit() -> int:
            return service.directives.current.max_body_bytes

        self._limit = min(limit() + _FRAMING_BYTES, _MOST_BYTES)
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._limit),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ],
        )
        servicer = Servicer(service, http_status)
        self._server.add_generic_rpc_handlers((_handlers(servicer, service.admission, limit),))
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(service), self._server)
        pool = _pool_with_health()
        names = (_SERVICE.full_name, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server, pool)
        self._host, self._port = settings.http_host, settings.grpc_port
        self._grpcs_port = settings.grpcs_port
        service.directives.follow(self._on_directives)
        self._certificates = service.certificates
        self.port = 0

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            StartupError: ``InvalidSettings``, when a port is taken.
        """
        tls = None if self._certificates is None else _credentials(self._certificates)
        only = tls if self._grpcs_port is None else None
        self.port = self._open("MODELYARD_GRPC_PORT", self._port, only)
        if self._grpcs_port is not None:
            self._open("MODELYARD_GRPCS_PORT", self._grpcs_port, tls)
        await self._server.start()

    def _on_directives(self, directives: Directives) -> None:
        """Lower limits are kept by the servicer; the library's own is fixed when it starts."""
        if directives.max_body_bytes > self._limit:
            _log.warning(
                "gRPC takes larger messages only after a restart",
                wanted=directives.max_body_bytes,
                limit=self._limit,
            )

    def _open(self, variable: str, port: int, tls: grpc.ServerCredentials | None) -> int:
        address = f"{self._host}:{port}"
        try:
            if tls is None:
                opened: int = self._server.add_insecure_port(address)
            else:
                opened = self._server.add_secure_port(address, tls)
        except RuntimeError as error:
            raise port_taken(variable, self._host, port) from error
        return opened

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, and finish what runs.

        Args:
            grace_s: Longest time for that, in seconds.
        """
        await self._server.stop(grace_s)


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Show whatever certificate was read last to whoever connects."""
    shown = certificates.pair

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        if certificates.pair is shown:
            return None  # as before
        shown = certificates.pair
        return grpc.ssl_server_certificate_configuration([shown])

    return grpc.dynamic_ssl_server_credentials(
        grpc.ssl_server_certificate_configuration([shown]), fetch
    )


def _handlers(
    servicer: Servicer, admission: Admission, limit: Callable[[], int]
) -> grpc.GenericRpcHandler:
    handlers = {}
    for method in _SERVICE.methods:
        behaviour = getattr(servicer, method.name)
        if method.name not in _COUNTED:
            behaviour = opening(behaviour)
        if method.name not in _LET_IN:
            behaviour = closed(behaviour, admission)
        request = reader(getattr(pb, method.input_type.name), limit)
        response = getattr(pb, method.output_type.name).SerializeToString
        if method.server_streaming:
            handlers[method.name] = grpc.stream_stream_rpc_method_handler(
                behaviour, request, response
            )
        else:
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                guarded(behaviour), request, response
            )
    return grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers)


def _pool_with_health() -> Any:
    """Reflection reads one pool: ours learns of the two services that are not ours."""
    pool = pb.DESCRIPTOR.pool
    for descriptor in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(descriptor.serialized_pb)
    return pool
