"""Every request of the comparison, good and bad, the same on every run."""

from __future__ import annotations

import copy
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.grpc_api import inference_pb2 as pb
from testkit import triton_asks as asks
from testkit import triton_bad_asks as bad
from testkit.triton_models import IDENTITIES, MODELS, PARTS
from testkit.triton_replies import GrpcCase, RestCase, StreamCase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testkit.triton_models import Entry

_SEED: Final = 20240917
_PACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}
_SIZED: Final = frozenset(
    {"binary data that is not there", "negative binary size", "binary size as text"}
)
"""Broken documents that are sent as if binary data stood behind them."""
_PLAIN: Final = {"accept-encoding": "identity"}


def good_rest(count: int) -> Iterator[RestCase]:
    """Write made-up requests as REST, a third of them compressed one way or the other."""
    random = np.random.default_rng(_SEED)
    for number in range(count):
        ask = asks.draw(random)
        document, tails = asks.rest_document(ask)
        body, headers = asks.rest_body(document, tails)
        encoding = [None, None, None, None, "gzip", "deflate"][random.integers(6)]
        wanted = ["identity", "identity", "identity", "gzip", "deflate", "gzip, deflate"]
        headers["accept-encoding"] = wanted[random.integers(6)]
        if encoding is not None:
            body, headers["content-encoding"] = _PACK[encoding](body), encoding
        path = f"/v2/models/{ask.entry.name}{['', '/versions/1'][number % 2]}/infer"
        yield RestCase("good", path, body, headers, document=document)


def good_grpc(count: int) -> Iterator[GrpcCase]:
    """Write made-up requests as messages."""
    random = np.random.default_rng(_SEED + 1)
    for _ in range(count):
        yield GrpcCase("good", asks.grpc_message(asks.draw(random)))


def bad_rest() -> Iterator[RestCase]:
    """Write requests with one thing wrong each."""
    for what, change in bad.BROKEN_DOCUMENTS.items():
        document = copy.deepcopy(bad.GOOD)
        change(document)
        body = json.dumps(document).encode()
        headers = dict(_PLAIN)
        if what in _SIZED:
            headers["inference-header-content-length"] = str(len(body))
        yield RestCase(what, "/v2/models/pair/infer", body, headers, document=document)
    for what, (body, headers) in bad.BODIES.items():
        yield RestCase(what, "/v2/models/pair/infer", body, _PLAIN | headers)
    good = json.dumps(bad.GOOD).encode()
    for what, (method, path) in bad.PLACES.items():
        yield RestCase(what, path, good if path.endswith("/infer") else b"", _PLAIN, method)
    for entry in IDENTITIES:
        for what, array, tail, size in _broken_tensors(entry):
            document = _one_tensor(entry, array)
            document["inputs"][0]["parameters"] = {"binary_data_size": size}
            body, headers = asks.rest_body(document, [tail])
            path = f"/v2/models/{entry.name}/infer"
            yield RestCase(what, path, body, headers, document=document)
    yield from _half_precision()
    document = _one_tensor(PARTS, np.zeros((1, 1), np.int32))
    document["inputs"][0]["data"] = [1]
    path = f"/v2/models/{PARTS.name}/infer"
    yield RestCase("parts at once", path, json.dumps(document).encode(), _PLAIN)


def bad_grpc() -> Iterator[GrpcCase]:
    """Write messages with one thing wrong each."""
    for what, change in bad.BROKEN_MESSAGES.items():
        message = bad.good_message()
        change(message)
        yield GrpcCase(what, message)
    one = np.ones((1, 1), np.int32)
    yield GrpcCase("parts at once", _stream_message(PARTS.name, one, "INT32", ends=False))
    for entry in IDENTITIES:
        for what, array, tail, size in _broken_tensors(entry):
            if len(tail) == size:  # what lies behind the tensor is told by REST alone
                message = pb.ModelInferRequest(model_name=entry.name, raw_input_contents=[tail])
                message.inputs.add(
                    name="x", datatype=entry.inputs[0].datatype, shape=list(array.shape)
                )
                yield GrpcCase(what, message)


def streams() -> Iterator[StreamCase]:
    """Ask models that answer once and one that answers in parts, with and without an end of parts."""
    for entry in (*IDENTITIES, PARTS):
        tensor = entry.inputs[0]
        array = asks.values(tensor, [1, 4], np.random.default_rng(_SEED))
        if entry is PARTS:
            array = np.abs(array // 2)
        for data in (array, array[:, :1], array[:, :0] if entry is PARTS else array):
            for ends in (False, True):
                yield StreamCase(
                    "good", _stream_message(entry.name, data, tensor.datatype, ends=ends)
                )
    failing = np.array([[1, -1]], np.int32)
    for ends in (False, True):
        yield StreamCase("bad", _stream_message(PARTS.name, failing, "INT32", ends=ends))
        yield StreamCase("bad", _stream_message("nope", failing, "INT32", ends=ends))
    yield StreamCase("bad", _stream_message(PARTS.name, failing, "INT8", ends=False))
    yield StreamCase(
        "refused by a model that answers in parts",
        _stream_message(PARTS.name, failing, "INT8", ends=True),
    )


def _stream_message(
    name: str, array: asks.Array, datatype: str, *, ends: bool
) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=name, id="7", raw_input_contents=[asks.raw(array)])
    message.inputs.add(name="x", datatype=datatype, shape=list(array.shape))
    if ends:
        message.parameters["triton_enable_empty_final_response"].bool_param = True
    return message


def documents() -> Iterator[RestCase | GrpcCase]:
    """Ask for everything that is no inference; the last ones for what was counted so far."""
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/pair/ready"):
        yield _get("health", path)
    yield _get("server", "/v2")
    yield GrpcCase("server", pb.ServerMetadataRequest(), "ServerMetadata")
    yield GrpcCase("health", pb.ServerLiveRequest(), "ServerLive")
    yield GrpcCase("health", pb.ServerReadyRequest(), "ServerReady")
    for entry in (*MODELS, PARTS):
        name = entry.name
        yield _get("metadata", f"/v2/models/{name}")
        yield _get("metadata", f"/v2/models/{name}/versions/1")
        yield _get("config", f"/v2/models/{name}/config")
        yield GrpcCase("health", pb.ModelReadyRequest(name=name), "ModelReady")
        yield GrpcCase("metadata", pb.ModelMetadataRequest(name=name), "ModelMetadata")
        yield GrpcCase("config", pb.ModelConfigRequest(name=name), "ModelConfig")
        yield _get("statistics", f"/v2/models/{name}/stats")
        yield GrpcCase("statistics", pb.ModelStatisticsRequest(name=name), "ModelStatistics")
    yield _get("statistics", "/v2/models/stats")
    yield GrpcCase("statistics", pb.ModelStatisticsRequest(), "ModelStatistics")
    # In between tritonserver says UNLOADING for as long as it takes; ours answers when it is done.
    for path in ("index", "models/pair/unload", "models/pair/load", "index"):
        what = "index" if path == "index" else "repository"
        yield RestCase(what, f"/v2/repository/{path}", b"", _PLAIN)
    yield GrpcCase("index", pb.RepositoryIndexRequest(), "RepositoryIndex")
    yield GrpcCase("index", pb.RepositoryIndexRequest(ready=True), "RepositoryIndex")
    yield _get("shared memory status", "/v2/systemsharedmemory/status")
    yield _get("trace setting", "/v2/trace/setting")
    yield _get("logging", "/v2/logging")


def _get(what: str, path: str) -> RestCase:
    return RestCase(what, path, b"", _PLAIN, "GET")


def _broken_tensors(entry: Entry) -> Iterator[tuple[str, asks.Array, bytes, int]]:
    """Yield what is wrong, the array that is announced, the bytes that come, and their number."""
    array = asks.values(entry.inputs[0], [2, 3], np.random.default_rng(_SEED))
    data = asks.raw(array)
    yield "bytes too few", array, data[:-1], len(data) - 1
    yield "bytes too many", array, data + b"\0", len(data) + 1
    yield "no bytes", array, b"", 0
    yield "bytes behind the last tensor", array, data + b"\0", len(data)
    yield "bytes that are not there", array, data[:-1], len(data)
    if array.dtype.kind == "O":
        yield "a length beyond the end", array, b"\xff" * 4 + data[4:], len(data)


def _half_precision() -> Iterator[RestCase]:
    for entry in IDENTITIES:
        datatype = entry.inputs[0].datatype
        if datatype not in asks.NO_JSON:
            continue
        array = np.array([[1.5, -2.0]], DTYPES[datatype])
        path = f"/v2/models/{entry.name}/infer"
        document = _one_tensor(entry, array)
        document["inputs"][0]["data"] = [1.5, -2.0]
        body = json.dumps(document).encode()
        yield RestCase(f"{datatype} as JSON", path, body, document=document)
        document = _one_tensor(entry, array)
        document["inputs"][0]["parameters"] = {"binary_data_size": array.nbytes}
        body, headers = asks.rest_body(document, [array.tobytes()])
        yield RestCase(f"{datatype} as JSON", path, body, headers, document=document)
        wanted = {"name": "y", "parameters": {"classification": 2, "binary_data": True}}
        body, headers = asks.rest_body({**document, "outputs": [wanted]}, [array.tobytes()])
        yield RestCase(f"classes of {datatype}", path, body, headers, document=document)


def _one_tensor(entry: Entry, array: asks.Array) -> dict[str, Any]:
    datatype = entry.inputs[0].datatype
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": list(array.shape)}]}
