"""One request to one server, and its answer in a form that two servers' answers compare in."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict

from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.grpc_api import inference_pb2 as pb

if TYPE_CHECKING:
    import httpx

_LENGTH: Final = "inference-header-content-length"
_SERVICE: Final = "/inference.GRPCInferenceService"


@dataclass(frozen=True)
class RestCase:
    """A request over REST.

    Attributes:
        what: In words.
        path: Below the server's address.
        body: Its bytes.
        headers: Its headers.
        method: HTTP method.
        document: The JSON that ``body`` was written from.
    """

    what: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    document: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GrpcCase:
    """A request over gRPC."""

    what: str
    message: Any
    method: str = "ModelInfer"


@dataclass(frozen=True)
class StreamCase:
    """One request on a stream of its own."""

    what: str
    message: Any


Case = RestCase | GrpcCase | StreamCase


@dataclass
class Output:
    """An answered tensor.

    Attributes:
        name: Its name.
        datatype: Its datatype.
        shape: Its shape.
        data: Its bytes, raw, however they travelled.
        written: Its values where they travelled as JSON.
        parameters: What else is said of it.
    """

    name: str
    datatype: str
    shape: list[int]
    data: bytes
    written: list[Any] | None
    parameters: dict[str, Any]


@dataclass
class Reply:
    """An answer.

    Attributes:
        status: HTTP status or gRPC code.
        headers: The ones that mean something.
        document: All but the outputs.
        outputs: In the order of the answer.
    """

    status: str
    headers: dict[str, str]
    document: dict[str, Any]
    outputs: list[Output] = field(default_factory=list)


def ask_rest(client: httpx.Client, address: str, case: RestCase) -> Reply:
    """Send a request."""
    answer = client.request(
        case.method, address + case.path, content=case.body, headers=case.headers
    )
    words = ("content-type", "content-encoding", "allow")
    headers = {w: answer.headers[w] for w in words if w in answer.headers}
    length = int(answer.headers.get(_LENGTH, len(answer.content)))
    text, tail = answer.content[:length], answer.content[length:]
    if not text:
        return Reply(str(answer.status_code), headers, {})
    parsed = json.loads(text.decode(errors="replace"))  # an error may quote what came
    document = parsed if isinstance(parsed, dict) else {"": parsed}
    if not (answer.is_success and "outputs" in document and "model_name" in document):
        return Reply(str(answer.status_code), headers, document)
    assert (_LENGTH in answer.headers) is bool(tail), "the header is there for binary data only"
    outputs = []
    for tensor in document.pop("outputs"):
        parameters = tensor.pop("parameters", {})
        size = parameters.pop("binary_data_size", None)
        written = tensor.pop("data", None)
        assert (size is None) is not (written is None)
        if written is None:
            data, tail = tail[:size], tail[size:]
            assert len(data) == size
        else:
            data = _raw(written, tensor["datatype"])
        outputs.append(Output(**tensor, data=data, written=written, parameters=parameters))
    assert not tail, "nothing is left behind the last tensor"
    return Reply(str(answer.status_code), headers, document, outputs)


def ask_grpc(channel: grpc.Channel, case: GrpcCase) -> Reply:
    """Send a request."""
    call = channel.unary_unary(
        f"{_SERVICE}/{case.method}",
        request_serializer=type(case.message).SerializeToString,
        response_deserializer=getattr(pb, f"{case.method}Response").FromString,
    )
    try:
        answer = call(case.message, timeout=20)
    except grpc.RpcError as error:
        return Reply(error.code().name, {}, {"error": error.details()})
    if case.method != "ModelInfer":
        return Reply("OK", {}, MessageToDict(answer, preserving_proto_field_name=True))
    return _from_message(answer)


def ask_stream(channel: grpc.Channel, case: StreamCase) -> Reply:
    """Send a request, and gather all that comes for it."""
    call = channel.stream_stream(
        f"{_SERVICE}/ModelStreamInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelStreamInferResponse.FromString,
    )
    parts = []
    for answer in call(iter([case.message]), timeout=20):
        part = _from_message(answer.infer_response)
        words = {"error": answer.error_message} if answer.error_message else {}
        parts.append({**part.document, **words, "outputs": part.outputs})
    return Reply("OK", {}, {"parts": parts})


def _from_message(answer: pb.ModelInferResponse) -> Reply:
    assert len(answer.raw_output_contents) == len(answer.outputs)
    outputs = [
        Output(
            tensor.name,
            tensor.datatype,
            list(tensor.shape),
            data,
            None,
            {name: str(value) for name, value in tensor.parameters.items()},
        )
        for tensor, data in zip(answer.outputs, answer.raw_output_contents, strict=True)
    ]
    document = {
        "model_name": answer.model_name,
        "model_version": answer.model_version,
        "id": answer.id,
        "parameters": {name: str(value) for name, value in answer.parameters.items()},
    }
    return Reply("OK", {}, document, outputs)


def _raw(values: list[Any], datatype: str) -> bytes:
    if datatype != "BYTES":
        return np.array(values, DTYPES[datatype]).tobytes()
    words = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(word)) + word for word in words)
