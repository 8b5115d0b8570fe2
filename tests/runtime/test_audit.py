"""A record of every prediction, never in a request's way."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from modelyard_runtime.records.audit import Excerpt
from modelyard_runtime.records.lines import Lines
from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard_runtime.service import Service

INFER = "/v2/models/m/infer"
BODY = models.request("x", "FP32", [1, 4], [1, 2, 3, 4])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.linear_onnx(tmp_path / "model.onnx")


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def directives(trail: Path, **audit: Any) -> Path:
    path = trail.with_name("directives.json")
    path.write_text(json.dumps({"audit": {"mode": "Metadata", "sink": str(trail), **audit}}))
    return path


def records(trail: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in trail.read_text().splitlines()]


def wait_for(*paths: Path) -> None:
    while not all(path.exists() and path.stat().st_size for path in paths):
        time.sleep(0.01)


def dropped(service: Service) -> float:
    return service.metrics.registry.get_sample_value("modelyard_audit_dropped_total") or 0


async def test_a_record_says_who_asked_what_and_what_became_of_it(model: Path, trail: Path) -> None:
    settings = {"model_version": "8", "revision": "fraud-1", "directives_file": directives(trail)}
    async with serving(model, **settings) as (client, _):
        await client.post(INFER, json=BODY, headers={"X-Request-Id": "r-1"})
        await client.post(INFER, json=models.request("x", "FP32", [1, 3], [1, 2, 3]))
        await client.post("/v2/models/other/infer", json=BODY)
    good, bad, unknown = records(trail)
    assert good.pop("duration_ms") > 0
    assert good.pop("time").endswith("+00:00")
    assert good == {
        "event": "prediction",
        "request_id": "r-1",
        "trace_id": "",
        "protocol": "rest",
        "model": "m",
        "version": "8",
        "revision": "fraud-1",
        "digest": None,
        "principal": "",
        "source": "127.0.0.1",
        "code": 200,
        "outcome": "ok",
        "rows": 1,
        "cached": False,
    }
    assert (bad["code"], bad["outcome"], bad["model"]) == (400, "invalid_input", "m")
    assert (unknown["code"], unknown["outcome"], unknown["model"]) == (404, "model_not_found", "")


async def test_payloads_are_recorded_without_what_is_redacted(trail: Path, tmp_path: Path) -> None:
    model = models.two_inputs_onnx(tmp_path / "model.onnx")
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [1, 2], "data": [1, 2]} for name in ("a", "b")
    ]
    settings = {"directives_file": directives(trail, mode="Payload", redact=["b*", "other"])}
    async with serving(model, **settings) as (client, _):
        assert (await client.post(INFER, json={"inputs": inputs})).status_code == 200
    (record,) = records(trail)
    assert record["inputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]},
        {"name": "b", "datatype": "FP32", "shape": [1, 2], "redacted": True},
    ]
    assert record["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 4.0]}
    ]


async def test_only_the_answered_outputs_are_recorded(trail: Path, tmp_path: Path) -> None:
    model = models.log_onnx(tmp_path / "model.onnx")
    body = models.request("x", "FP32", [1, 1], [1]) | {"outputs": [{"name": "same"}]}
    settings = {"directives_file": directives(trail, mode="Payload")}
    async with serving(model, **settings) as (client, _):
        assert (await client.post(INFER, json=body)).status_code == 200
    (record,) = records(trail)
    assert [tensor["name"] for tensor in record["outputs"]] == ["same"]


async def test_payloads_are_sampled_and_predictions_are_not(model: Path, trail: Path) -> None:
    settings = {"directives_file": directives(trail, mode="Payload", samplingRatio=0.5)}
    async with serving(model, **settings) as (client, _):
        for _ in range(60):
            await client.post(INFER, json=BODY)
    found = records(trail)
    assert len(found) == 60
    assert 0 < sum("inputs" in record for record in found) < 60


async def test_it_follows_the_directives(model: Path, trail: Path) -> None:
    path = directives(trail, mode="None")
    second = trail.with_name("second.jsonl")
    async with serving(model, directives_file=path) as (client, service):
        await client.post(INFER, json=BODY, headers={"X-Request-Id": "1"})
        directives(trail)
        service.directives.poll()
        await client.post(INFER, json=BODY, headers={"X-Request-Id": "2"})
        directives(trail, sink=str(second))
        service.directives.poll()
        await client.post(INFER, json=BODY, headers={"X-Request-Id": "3"})
        directives(trail, mode="None", sink=str(second))
        service.directives.poll()
        await client.post(INFER, json=BODY, headers={"X-Request-Id": "4"})
    # The writers of the sinks that were left finish by themselves.
    await asyncio.to_thread(wait_for, trail, second)
    assert [record["request_id"] for record in records(trail)] == ["2"]
    assert [record["request_id"] for record in records(second)] == ["3"]


async def test_a_copy_of_a_request_is_not_recorded(model: Path, trail: Path) -> None:
    async with serving(model, directives_file=directives(trail)) as (client, service):
        service.admission.is_copy = lambda header: header("x-copy") is not None
        await client.post(INFER, json=BODY, headers={"X-Copy": "yes"})
        await client.post(INFER, json=BODY, headers={"X-Request-Id": "mine"})
    assert [record["request_id"] for record in records(trail)] == ["mine"]


async def test_a_sink_that_takes_nothing_loses_records_and_no_requests(
    model: Path, tmp_path: Path
) -> None:
    settings = {"directives_file": directives(tmp_path / "missing.jsonl", sink="/proc/nowhere")}
    async with serving(model, **settings) as (client, service):
        for _ in range(3):
            assert (await client.post(INFER, json=BODY)).status_code == 200
    assert dropped(service) == 3


def test_a_slow_sink_loses_lines_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    lost = []
    lines = Lines(str(tmp_path / "lines"), lambda: lost.append(1))
    go_on = threading.Event()
    writing = threading.Event()

    def slow() -> dict[str, int]:
        writing.set()
        go_on.wait()
        return {"n": -1}

    lines.put(slow)
    writing.wait()
    for number in range(10_000):
        lines.put(lambda number=number: {"n": number})  # type: ignore[misc]
    assert len(lost) == 10_000 - 8192
    go_on.set()
    lines.close()
    lines.flush(10)
    written = [json.loads(line)["n"] for line in (tmp_path / "lines").read_text().splitlines()]
    assert written == [-1, *range(8192)]


def test_standard_output_takes_whole_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = Lines("stdout", lambda: None)
    lines.put(lambda: {"a": 1})
    lines.put(lambda: {"b": [1.5, None]})
    lines.close()
    lines.flush(10)
    assert capfdbinary.readouterr().out == b'{"a":1}\n{"b":[1.5,null]}\n'


@pytest.mark.parametrize(
    ("array", "most", "data", "truncated"),
    [
        (np.arange(6, dtype=np.float32).reshape(2, 3), 16, [0, 1, 2, 3], True),
        (np.arange(6, dtype=np.float32).reshape(2, 3).T, 100, [0, 3, 1, 4, 2, 5], False),
        (np.array([1, 2], ml_dtypes.bfloat16), 100, [1, 2], False),
        (np.array([1.5], np.float16), 100, [1.5], False),
        (np.array([b"caf\xc3\xa9", b"\xff", b"long"], object), 6, ["café", "/w=="], True),
        (np.zeros((0, 3), np.float32), 100, [], False),
    ],
)
def test_an_excerpt_is_bounded_and_in_order(
    array: Any, most: int, data: list[Any], *, truncated: bool
) -> None:
    excerpt = Excerpt("x", array, most, redacted=False)
    assert excerpt.nbytes <= most
    document = excerpt.document()
    assert document["data"] == data
    assert document["shape"] == list(array.shape)
    assert document.get("truncated", False) is truncated


def test_of_what_is_redacted_nothing_is_kept() -> None:
    for array in (np.arange(6, dtype=np.float32), np.array([b"secret"], object)):
        excerpt = Excerpt("x", array, 4000, redacted=True)
        assert excerpt.nbytes == 0
        assert len(excerpt._values) == 0


def test_an_excerpt_keeps_no_tensor_alive() -> None:
    array = np.zeros(1_000_000, np.float32)
    excerpt = Excerpt("x", array, 4000, redacted=False)
    assert excerpt._values.base is None
    assert not np.shares_memory(excerpt._values, array)
