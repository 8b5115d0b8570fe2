"""HTTP workers: what comes through one is answered as if the server had the connection itself."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from modelyard_runtime.api.remote import RemoteRoutes
from modelyard_runtime.app import create_app
from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.workers.channel import Channel, packed, unpacked
from modelyard_runtime.workers.forwarder import Forwarder
from modelyard_runtime.workers.link import Link
from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from modelyard_runtime.service import Service

INFER = "/v2/models/m/infer"
ROW = models.request("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])


@asynccontextmanager
async def through_a_worker(service: Service) -> AsyncIterator[tuple[httpx.AsyncClient, Link]]:
    """Put a worker in front of a service: a real one, but in this event loop."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    link = Link(create_app(service, RemoteRoutes(service)))
    channel = Channel(lambda message: forwarder.take(message), lambda: None)  # noqa: PLW0108 - made next
    forwarder = Forwarder(channel)
    await loop.create_unix_connection(lambda: link.channel, sock=ours)
    await loop.create_unix_connection(lambda: channel, sock=theirs)
    transport = httpx.ASGITransport(app=forwarder)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client, link
    finally:
        channel.close()
        link.channel.close()
        await link.ended.wait()


async def until(true: Callable[[], object]) -> None:
    """Let the event loop turn until something is true."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - nobody else is told of it
            await asyncio.sleep(0)


def binary(shape: list[int], data: bytes, **parameters: Any) -> dict[str, Any]:
    """Write a request with a binary tensor."""
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": shape}
    tensor["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    return {
        "content": head + data,
        "headers": {"inference-header-content-length": str(len(head))},
    }


FOUR = struct.pack("<4f", 1, 2, 3, 4)
NAN = struct.pack("<4f", 1, 2, 3, float("nan"))
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "json": ("POST", INFER, {"json": ROW}),
    "binary in": ("POST", INFER, binary([1, 4], FOUR)),
    "binary both": ("POST", INFER, binary([1, 4], FOUR, binary_data_output=True)),
    "raw": (
        "POST",
        INFER,
        {"content": FOUR, "headers": {"inference-header-content-length": "0"}},
    ),
    "nan as json": ("POST", INFER, binary([1, 4], NAN)),
    "nan as binary": ("POST", INFER, binary([1, 4], NAN, binary_data_output=True)),
    "gzip both": (
        "POST",
        INFER,
        {
            "content": gzip.compress(json.dumps(ROW).encode()),
            "headers": {"content-encoding": "gzip", "accept-encoding": "gzip"},
        },
    ),
    "with a version": ("POST", "/v2/models/m/versions/1/infer", {"json": ROW}),
    "many rows": ("POST", INFER, {"json": models.request("x", "FP32", [90, 4], [0.5] * 360)}),
    "wrong header": (
        "POST",
        INFER,
        {"content": b"{}", "headers": {"inference-header-content-length": "no"}},
    ),
    "no json": ("POST", INFER, {"content": b"rubbish"}),
    "no gzip": ("POST", INFER, {"content": b"x", "headers": {"content-encoding": "gzip"}}),
    "unknown encoding": (
        "POST",
        INFER,
        {"content": b"x", "headers": {"content-encoding": "br"}},
    ),
    "no input": ("POST", INFER, {"json": {"inputs": []}}),
    "wrong shape": ("POST", INFER, {"json": models.request("x", "FP32", [1, 3], [1, 2, 3])}),
    "bad time-out": ("POST", INFER, {"json": {**ROW, "parameters": {"timeout": -1}}}),
    "no time left": (
        "POST",
        INFER,
        {"json": ROW, "headers": {"x-request-deadline-ms": "0"}},
    ),
    "too large": ("POST", INFER, {"content": b" " * 3000}),
    "other model": ("POST", "/v2/models/other/infer", {"json": ROW}),
    "other version": ("POST", "/v2/models/m/versions/9/infer", {"json": ROW}),
    "wrong method": ("GET", INFER, {}),
    "prefixed": ("POST", f"/team/a{INFER}", {"json": ROW}),
    "v1": ("POST", "/v1/models/m:predict", {"json": {"instances": [[1, 2, 3, 4]]}}),
    "predict": ("POST", "/predict/m", {"json": [[1, 2, 3, 4]]}),
    "generate": ("POST", "/v2/models/m/generate", {"json": {"x": [[1, 2, 3, 4]]}}),
    "generate stream": ("POST", "/v2/models/m/generate_stream", {"json": {"x": [1, 2, 3, 4]}}),
    "ready": ("GET", "/v2/health/ready", {}),
    "metadata": ("GET", "/v2/models/m", {}),
    "index": ("POST", "/v2/repository/index", {}),
    "config": ("GET", "/v2/models/m/config", {}),
    "load is closed": ("POST", "/v2/repository/models/m/load", {}),
    "nowhere": ("GET", "/nowhere", {}),
}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    directives = tmp_path / "directives.json"
    directives.write_text(json.dumps({"pathPrefix": "/team/a", "maxBodyBytes": 2000}))
    path = models.linear_onnx(tmp_path / "m.onnx")
    async with serving(path, directives_file=directives) as (client, service):
        yield client, service


def essence(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Leave out what differs from request to request."""
    return answer.status_code, answer.content, dict(answer.headers)


@pytest.mark.parametrize("name", REQUESTS)
async def test_an_answer_is_the_same_as_without_workers(
    served: tuple[httpx.AsyncClient, Service], name: str
) -> None:
    direct, service = served
    method, path, more = REQUESTS[name]
    more = {**more, "headers": {"x-request-id": "one", **more.get("headers", {})}}
    wanted = await direct.request(method, path, **more)
    async with through_a_worker(service) as (client, link):
        for _ in range(2):  # the second time the worker knows the signature
            got = await client.request(method, path, **more)
            assert essence(got) == essence(wanted)
        assert not link._calls
    assert service.admission.inflight == 0


STREAMING = """
import numpy as np

def predict(x):
    return x

async def stream(request):
    for part in range(3):
        yield np.full((1, 2), part, np.float32)
    if request.inputs["x"][0, 0] == 9:
        raise ZeroDivisionError
"""


@pytest.mark.parametrize("first", [1.0, 9.0], ids=["whole", "broken"])
async def test_streams_pass_through_part_by_part(tmp_path: Path, first: float) -> None:
    (tmp_path / "handler.py").write_text(STREAMING)
    body = {"x": [[first, 2.0]]}
    tensors = [{"name": "x", "dtype": "FP32", "shape": [-1, 2]}]
    headers = {"x-request-id": "one"}
    stream = "/v2/models/m/generate_stream"
    async with serving(tmp_path, model_inputs=tensors) as (direct, service):
        wanted = await direct.post(stream, json=body, headers=headers)
        async with through_a_worker(service) as (client, _):
            got = await client.post(stream, json=body, headers=headers)
    assert got.text.count("data: ") == (3 if first == 1 else 4)
    assert essence(got) == essence(wanted)


async def test_requests_are_counted_once_and_with_their_codes(
    served: tuple[httpx.AsyncClient, Service],
) -> None:
    _, service = served
    value = service.metrics.registry.get_sample_value
    labels = {"model": "m", "version": "1", "revision": "", "protocol": "rest"}
    async with through_a_worker(service) as (client, _):
        answers = await asyncio.gather(
            *(client.post(INFER, json=ROW) for _ in range(20)),
            *(client.post(INFER, json={"inputs": []}) for _ in range(5)),
        )
        await client.post(INFER, **binary([1, 4], NAN, binary_data_output=True))
    assert [answer.status_code for answer in answers] == [200] * 20 + [400] * 5
    assert value("modelyard_requests_total", {**labels, "code": "200"}) == 21
    assert value("modelyard_requests_total", {**labels, "code": "400"}) == 5
    del labels["protocol"]
    assert value("modelyard_invalid_output_total", labels) == 1
    for stage in ("decode", "encode"):
        name = "modelyard_stage_duration_seconds_sum"
        assert (value(name, {**labels, "stage": stage}) or 0) > 0


async def test_a_caller_is_authenticated_before_its_body_is_read(tmp_path: Path) -> None:
    directives, keys = tmp_path / "directives.json", tmp_path / "keys"
    directives.write_text(json.dumps({"auth": {"type": "APIKey"}}))
    keys.mkdir()
    (keys / "team-a").write_text("a-key-that-is-long-enough-to-be-one")
    path = models.linear_onnx(tmp_path / "m.onnx")

    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("nobody may ask for the body")
        yield b""

    async with (
        serving(path, directives_file=directives, keys_dir=keys) as (_, service),
        through_a_worker(service) as (client, _),
    ):
        answer = await client.post(INFER, content=body())
        assert answer.status_code == 401
        key = {"authorization": "Bearer a-key-that-is-long-enough-to-be-one"}
        assert (await client.post(INFER, json=ROW, headers=key)).status_code == 200


async def test_a_worker_that_dies_takes_only_its_own_requests_along(tmp_path: Path) -> None:
    path = models.linear_onnx(tmp_path / "m.onnx")
    async with serving(path, max_delay_ms=60_000, request_timeout_s=60) as (_, service):
        async with through_a_worker(service) as (client, link):
            asking = asyncio.create_task(client.post(INFER, json=ROW))
            (model,) = service.repository.served
            await until(lambda: model.batcher.queued)
            assert service.admission.inflight == 1
            link.channel.close()
            await link.ended.wait()
            await until(lambda: not service.admission.inflight)
            assert model.batcher.queued == 0
            asking.cancel()
        labels = {"model": "m", "version": "1", "revision": "", "protocol": "rest", "code": "499"}
        value = service.metrics.registry.get_sample_value
        assert value("modelyard_requests_total", labels) == 1


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_arrays_cross_as_they_are(datatype: str) -> None:
    sent = np.array([[0, 1], [1, 0]]).astype(DTYPES[datatype])
    if datatype == "BYTES":
        sent = np.array([[b"a", b""], [b"\x00", b"bc"]], dtype=np.object_)
    pieces = packed(("word", sent, np.arange(3)))
    length, parts = struct.unpack("!QI", pieces[0])
    data = bytearray(b"".join(pieces[1:]))
    assert len(data) == length
    word, got, numbers = unpacked(data, parts)
    assert word == "word"
    assert got.dtype == sent.dtype
    assert (got == sent).all()
    assert numbers.tolist() == [0, 1, 2]
    assert got.flags.writeable
    assert got.flags.aligned


def test_messages_arrive_whole_however_the_bytes_are_cut() -> None:
    seen: list[Any] = []
    channel = Channel(seen.append, lambda: None)
    wire = b"".join(
        bytes(piece) for number in range(3) for piece in packed((number, np.arange(10)))
    )
    for at in range(0, len(wire), 7):
        channel.data_received(wire[at : at + 7])
    assert [number for number, _ in seen] == [0, 1, 2]
    assert all((array == np.arange(10)).all() for _, array in seen)
