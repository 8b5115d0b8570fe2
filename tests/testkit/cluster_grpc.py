"""A client of a model's gRPC port behind a proxy, which sees who answers."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Self

import grpc
import numpy as np

from modelyard_runtime.grpc_api import inference_pb2 as pb
from testkit.cluster_traffic import ROW, TIMEOUT_S, Route

SERVICE: Final = "/inference.GRPCInferenceService"
REVISION: Final = "x-modelyard-revision"


class GrpcAnswer(NamedTuple):
    """The first output of an inference, and the revision that gave it."""

    value: float
    revision: str


@dataclass(frozen=True)
class GrpcRoute:
    """A channel to a proxy for one host.

    Attributes:
        channel: Open connection.
        model: Served name.
        metadata: Sent with each request, in lower case as HTTP/2 wants it.
    """

    channel: Any
    model: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def of(cls, route: Route) -> Iterator[Self]:
        """Connect to the proxy of a route over HTTP."""
        options = [("grpc.default_authority", route.host)]
        with grpc.insecure_channel(route.proxy, options=options) as channel:
            yield cls(channel, route.model)

    def with_metadata(self, **metadata: str) -> Self:
        """The same with metadata; an underscore stands for a dash."""
        named = {key.replace("_", "-"): value for key, value in metadata.items()}
        return replace(self, metadata=named)

    def ask(self) -> GrpcAnswer:
        """Send one inference.

        Raises:
            grpc.RpcError: It was not answered.
        """
        infer = self.channel.unary_unary(
            f"{SERVICE}/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer, call = infer.with_call(self._request(), metadata=self._sent(), timeout=TIMEOUT_S)
        value = np.frombuffer(answer.raw_output_contents[0], dtype=np.float32)[0]
        return GrpcAnswer(float(value), dict(call.initial_metadata()).get(REVISION, ""))

    def ask_many(self, count: int) -> Counter[str]:
        """Send inferences one after the other; return how many each revision has answered."""
        return Counter(self.ask().revision for _ in range(count))

    def until_answered(self) -> None:
        """Wait until the proxy has the route."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self.ask()
            except grpc.RpcError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            else:
                return

    def stream(self, parts: int, pause_s: float) -> list[float]:
        """Ask for an answer of several parts; return when each came, in seconds after the first."""
        infer = self.channel.stream_stream(
            f"{SERVICE}/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        asked = self._request()
        asked.parameters["parts"].int64_param = parts
        asked.parameters["pause_s"].double_param = pause_s
        moments: list[float] = []
        for part in infer(iter([asked]), metadata=self._sent(), timeout=TIMEOUT_S):
            assert not part.error_message, part.error_message
            moments.append(time.monotonic())
        return [moment - moments[0] for moment in moments]

    def _sent(self) -> list[tuple[str, str]]:
        return list(self.metadata.items())

    def _request(self) -> Any:
        asked = pb.ModelInferRequest(model_name=self.model)
        tensor = asked.inputs.add(name="x", datatype="FP32", shape=[1, len(ROW)])
        tensor.contents.fp32_contents.extend(ROW)
        return asked
