"""Triton's generate extension: at once, and in parts."""

from __future__ import annotations

import asyncio
import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelyard_runtime.api.events import EventStream, send_events
from modelyard_runtime.app import create_app
from modelyard_runtime.call import Call
from modelyard_runtime.errors import (
    ClientGoneError,
    InferenceError,
    InvalidInputError,
)
from modelyard_runtime.inference import ServedModel
from testkit import runtime_models as models
from testkit.runtime_serving import serving
from testkit.virtual_time import VirtualTime, run_virtually

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from modelyard_runtime.service import Service

GENERATE = "/v2/models/m/generate"
STREAM = "/v2/models/m/generate_stream"
TRAEFIK = {"x-forwarded-server": "traefik-7d9c"}


def events(text: str) -> list[Any]:
    assert text.endswith("\n\n")
    blocks = text.removesuffix("\n\n").split("\n\n")
    assert all(block.startswith("data: ") for block in blocks)
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def answering(parts: list[str | BaseException]) -> Any:
    """Return what takes ``ServedModel.stream``'s place: parts, and then perhaps an error."""

    async def stream(self: Any, question: Any, call: Call) -> AsyncGenerator[Any]:
        del self, question, call
        for part in parts:
            if isinstance(part, BaseException):
                raise part
            yield {"text_output": np.array([part.encode()], object)}

    return stream


async def test_scalars_and_lists(tmp_path: Path) -> None:
    async with serving(models.text_onnx(tmp_path / "m.onnx")) as (client, _):
        answer = await client.post(GENERATE, json={"text_input": "hello", "id": "7"})
        assert answer.json() == {
            "model_name": "m",
            "model_version": "1",
            "id": "7",
            "text_output": "hello",
        }
        answer = await client.post(GENERATE, json={"text_input": [["a"], ["b"]]})
        assert answer.json()["text_output"] == ["a", "b"]
        answer = await client.post("/v2/models/m/versions/1/generate", json={"text_input": ["a"]})
        assert answer.json()["text_output"] == "a"


async def test_numbers(tmp_path: Path) -> None:
    async with serving(models.linear_onnx(tmp_path / "m.onnx")) as (client, _):
        answer = await client.post(GENERATE, json={"x": [1, 0, 0, 0]})
        assert answer.json()["y"] == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_input"),
        ([], "malformed"),
        ({"text_input": None}, "invalid_input"),
        ({"text_input": 7}, "invalid_input"),
        ({"text_input": ["a", "b"]}, "invalid_input"),
        ({"text_input": {"a": "b"}}, "invalid_input"),
        ({"text_input": "a", "other_input": ["a"]}, "invalid_input"),
        ({"text_input": "a", "parameters": [1]}, "malformed"),
        ({"text_input": "a", "id": 7}, "malformed"),
        ({"text_input": "a", "timeout": -1}, "invalid_input"),
        ({"text_input": "a", "parameters": {"priority": "high"}}, "invalid_input"),
    ],
)
async def test_bad_requests_have_their_status_in_both(tmp_path: Path, body: Any, code: str) -> None:
    async with serving(models.text_onnx(tmp_path / "m.onnx")) as (client, _):
        for path in (GENERATE, STREAM):
            answer = await client.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text


async def test_a_model_that_does_not_stream_gives_one_event(tmp_path: Path) -> None:
    async with serving(models.text_onnx(tmp_path / "m.onnx")) as (client, service):
        asked = {"text_input": "hello", "temperature": 0.5, "parameters": {"max_tokens": 3}}
        answer = await client.post(STREAM, json=asked, headers={"accept-encoding": "gzip"})
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-encoding" not in answer.headers
        (event,) = events(answer.text)
        assert event["text_output"] == "hello"
        assert counted(service, "time_to_first_output_seconds_count") == 1
        assert counted(service, "requests_total", protocol="generate", code="200") == 1


async def test_an_error_after_the_first_part_is_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = answering(["a", "b", InferenceError("the handler's stream failed")])
    monkeypatch.setattr(ServedModel, "stream", broken)
    async with serving(models.text_onnx(tmp_path / "m.onnx")) as (client, service):
        answer = await client.post(STREAM, json={"text_input": "x"})
        assert answer.status_code == 200
        first, second, last = events(answer.text)
        assert (first["text_output"], second["text_output"]) == ("a", "b")
        assert last == {
            "error": "the handler's stream failed",
            "code": "model_error",
            "request_id": answer.headers["x-request-id"],
        }
        assert counted(service, "requests_total", protocol="generate", code="500") == 1


async def test_an_error_before_the_first_part_has_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServedModel, "stream", answering([InvalidInputError("text is empty")]))
    async with serving(models.text_onnx(tmp_path / "m.onnx")) as (client, service):
        answer = await client.post(STREAM, json={"text_input": "x"})
        assert (answer.status_code, answer.json()["error"]) == (400, "text is empty")
        assert counted(service, "time_to_first_output_seconds_count") == 0


async def hang_up_at_the_first_part(service: Service, body: bytes) -> None:
    begun = asyncio.Event()
    messages = [{"type": "http.request", "body": body}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            begun.set()
        await asyncio.sleep(0)  # as a socket does

    scope = {"type": "http", "method": "POST", "path": STREAM, "headers": []}
    await create_app(service)(scope, receive, send)


def counted(service: Service, name: str, **labels: str) -> float:
    own = {"model": "m", "version": "1", "revision": ""}
    value = service.metrics.registry.get_sample_value(f"modelyard_{name}", {**own, **labels})
    return value or 0.0


def call(headers: Mapping[str, str] = MappingProxyType({})) -> Call:
    deadline = asyncio.get_running_loop().time() + 60
    return Call("r", protocol="generate", started=0.0, deadline=deadline, header=headers.get)


class Sent(list[Any]):
    """Collects what is sent."""

    async def __call__(self, message: Any) -> None:
        self.append(message)


STREAMING = """
from modelyard_runtime import InvalidInput

async def stream(request, ctx):
    try:
        for word in request.inputs["text_input"].item().decode().split():
            yield word
        if request.parameters.get("max_tokens") == 0:
            raise InvalidInput("no token is left")
        while request.parameters.get("endless"):
            yield "more"
    finally:
        ctx.counter("closed_total")
"""


async def test_a_handler_that_streams(tmp_path: Path) -> None:
    models.text_onnx(tmp_path / "model.onnx")
    (tmp_path / "handler.py").write_text(STREAMING)
    async with serving(tmp_path) as (client, _):
        answer = await client.post(STREAM, json={"text_input": "a b", "max_tokens": 0})
        *parts, last = events(answer.text)
        assert [part["text_output"] for part in parts] == ["a", "b"]
        assert last["code"] == "invalid_input"
        answer = await client.post(STREAM, json={"text_input": "a"})
        assert [part["text_output"] for part in events(answer.text)] == ["a"]


async def test_a_handler_is_told_that_the_caller_hung_up(tmp_path: Path) -> None:
    models.text_onnx(tmp_path / "model.onnx")
    (tmp_path / "handler.py").write_text(STREAMING)
    async with serving(tmp_path) as (_, service):
        body = b'{"text_input": "a", "endless": true}'
        await hang_up_at_the_first_part(service, body)
        labels = {"model": "m", "version": "1", "revision": ""}
        assert service.metrics.registry.get_sample_value("closed_total", labels) == 1
        assert counted(service, "requests_total", protocol="generate", code="499") == 1


@pytest.mark.parametrize(
    ("first_s", "headers", "begins_s"),
    [
        (0, {}, 0.005),
        (0.004, {}, 0.005),
        (0.02, {}, 0.02),
        (0.02, TRAEFIK, 0.025),
        (0.03, TRAEFIK, 0.03),
    ],
)
def test_an_answer_in_parts_does_not_begin_while_its_request_is_being_sent(
    first_s: float, headers: dict[str, str], begins_s: float
) -> None:
    async def parts() -> AsyncGenerator[bytes]:
        await asyncio.sleep(first_s)
        yield b"1"

    async def scenario(loop: VirtualTime) -> None:
        sent = []

        async def send(message: Any) -> None:
            del message
            sent.append(loop.time())

        await send_events(send, EventStream(parts(), idle_s=60), call(headers))
        assert sent[0] == pytest.approx(begins_s)

    run_virtually(scenario)


async def test_a_caller_who_does_not_read_is_gone() -> None:
    async def parts() -> AsyncGenerator[bytes]:
        while True:
            yield b"1"

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    with pytest.raises(ClientGoneError):
        await send_events(send, EventStream(parts(), idle_s=0.01), call())


async def test_a_bug_is_told_without_its_text() -> None:
    async def parts() -> AsyncGenerator[bytes]:
        yield b"1"
        raise KeyError("secret")

    sent = Sent()
    with pytest.raises(KeyError):
        await send_events(sent, EventStream(parts(), idle_s=60), call())
    assert json.loads(sent[-1]["body"][6:]) == {
        "error": "an internal error occurred",
        "code": "internal",
        "request_id": "r",
    }
