"""The same fault has the same status and code, whatever protocol it comes by."""

from __future__ import annotations

import gzip
import json
import struct
from typing import TYPE_CHECKING, Any, Final

import pytest
import pytest_asyncio

from modelyard_runtime.errors import (
    DeadlineExceededError,
    InferenceError,
    InvalidInputError,
    OutOfMemoryError,
    OverloadedError,
)
from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import httpx

    from modelyard_runtime.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

Wire = tuple[str, dict[str, str], bytes]
"""Path with a place for the model, headers, body."""


def rest(values: list[Any]) -> Wire:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(values)], "data": values}
    return "/v2/models/{}/infer", {}, json.dumps({"inputs": [tensor]}).encode()


def binary(values: list[Any]) -> Wire:
    data = struct.pack(f"<{len(values)}f", *values)
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": [1, len(values)],
        "parameters": {"binary_data_size": len(data)},
    }
    text = json.dumps({"inputs": [tensor]}).encode()
    return (
        "/v2/models/{}/infer",
        {"inference-header-content-length": str(len(text))},
        text + data,
    )


def v1(values: list[Any]) -> Wire:
    return "/v1/models/{}:predict", {}, json.dumps({"instances": [values]}).encode()


def predict(values: list[Any]) -> Wire:
    return "/predict/{}", {"content-type": "application/json"}, json.dumps([values]).encode()


def generate(values: list[Any]) -> Wire:
    return "/v2/models/{}/generate", {}, json.dumps({"x": values}).encode()


def stream(values: list[Any]) -> Wire:
    return "/v2/models/{}/generate_stream", {}, json.dumps({"x": values}).encode()


PROTOCOLS: Final = (rest, binary, v1, predict, generate, stream)
ROW: Final = [1.0, 2.0, 3.0, 4.0]


def good(wire: Wire) -> Wire:
    return wire


def cut_off(wire: Wire) -> Wire:
    path, headers, body = wire
    return path, headers, body[:-1]


def other_model(wire: Wire) -> Wire:
    path, headers, body = wire
    return path.format("other"), headers, body


def other_version(wire: Wire) -> Wire:
    path, headers, body = wire
    return path.format("m/versions/9"), headers, body


def packed(wire: Wire) -> Wire:
    path, headers, _ = wire
    bomb = gzip.compress(b" " * (33 * 2**20))
    return path, {**headers, "content-encoding": "gzip"}, bomb


def unknown_encoding(wire: Wire) -> Wire:
    path, headers, body = wire
    return path, {**headers, "content-encoding": "br"}, body


def large(wire: Wire) -> Wire:
    path, headers, body = wire
    return path, {**headers, "content-length": str(2**40)}, body


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def linear(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    async with serving(models.linear_onnx(tmp_path_factory.mktemp("m") / "m.onnx")) as served:
        yield served


async def check(client: httpx.AsyncClient, wire: Wire, status: int, code: str) -> httpx.Response:
    path, headers, body = wire
    answer = await client.post(path.format("m"), content=body, headers=headers)
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert set(document) == {"error", "code", "request_id"}
    assert document["code"] == code
    assert document["request_id"] == answer.headers["x-request-id"]
    return answer


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("values", "fault", "status", "code"),
    [
        (ROW, cut_off, 400, None),
        (ROW[:3], good, 400, "invalid_input"),
        ([], good, 400, "invalid_input"),
        (ROW, other_model, 404, "model_not_found"),
        (ROW, other_version, 404, "model_not_found"),
        (ROW, packed, 413, "too_large"),
        (ROW, large, 413, "too_large"),
        (ROW, unknown_encoding, 415, "unsupported_media"),
    ],
)
async def test_what_the_caller_did_wrong(
    linear: tuple[httpx.AsyncClient, Service],
    protocol: Callable[[list[Any]], Wire],
    values: list[Any],
    fault: Callable[[Wire], Wire],
    status: int,
    code: str | None,
) -> None:
    client, _ = linear
    await check(client, fault(protocol(values)), status, code or "malformed")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidInputError("a hook refuses it"), 400, "invalid_input"),
        (OverloadedError("the queue is full", retry_after_s=2.5), 429, "overloaded"),
        (InferenceError("the model failed"), 500, "model_error"),
        (OutOfMemoryError("a row does not fit"), 503, "out_of_memory"),
        (DeadlineExceededError("the deadline passed"), 504, "timeout"),
    ],
)
async def test_what_the_model_says(
    linear: tuple[httpx.AsyncClient, Service],
    protocol: Callable[[list[Any]], Wire],
    error: Exception,
    status: int,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise error

    client, service = linear
    monkeypatch.setattr(service.model("m", None).batcher, "submit", fail)
    answer = await check(client, protocol(ROW), status, code)
    if status == 429:
        assert answer.headers["retry-after"] == "3"
        assert answer.headers["retry-after-ms"] == "2500"


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if p is not binary])
async def test_what_json_cannot_say(tmp_path: Path, protocol: Callable[[list[Any]], Wire]) -> None:
    async with serving(models.log_onnx(tmp_path / "m.onnx")) as (client, _):
        await check(client, protocol([-1.0]), 500, "non_finite")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_is_not_the_callers_turn(
    linear: tuple[httpx.AsyncClient, Service], protocol: Callable[[list[Any]], Wire]
) -> None:
    client, _ = linear
    path, _, _ = protocol(ROW)
    answer = await client.get(path.format("m"))
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_bug_is_not_told(
    linear: tuple[httpx.AsyncClient, Service],
    protocol: Callable[[list[Any]], Wire],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise KeyError("secret")

    client, service = linear
    monkeypatch.setattr(service.model("m", None).batcher, "submit", fail)
    answer = await check(client, protocol(ROW), 500, "internal")
    assert "secret" not in answer.text
