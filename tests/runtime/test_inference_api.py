"""Inference over HTTP: the Open Inference Protocol as its clients see it."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest

from modelyard_runtime.service import Service
from modelyard_runtime.settings import RuntimeSettings
from testkit import runtime_models as models
from testkit.runtime_serving import client_of, serving

if TYPE_CHECKING:
    from pathlib import Path

INFER = "/v2/models/m/infer"
ROW = [1.0, 2.0, 3.0, 4.0]


def linear(shape: list[int], data: list[Any], **extra: Any) -> dict[str, Any]:
    return {**models.request("x", "FP32", shape, data), **extra}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.linear_onnx(tmp_path / "model.onnx")


async def test_metadata_and_health(model: Path) -> None:
    async with serving(model) as (client, _):
        assert (await client.get("/v2/health/live")).json() == {"live": True}
        assert (await client.get("/v2/health/ready")).json() == {"ready": True, "live": True}
        assert "binary_tensor_data" in (await client.get("/v2")).json()["extensions"]
        expected = {
            "name": "m",
            "versions": ["1"],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
        }
        for path in ("/v2/models/m", "/v2/models/m/versions/1"):
            assert (await client.get(path)).json() == expected
            assert (await client.get(f"{path}/ready")).json() == {"name": "m", "ready": True}


@pytest.mark.parametrize("data", [[*ROW, *ROW], [ROW, ROW]], ids=["flat", "nested"])
@pytest.mark.parametrize("path", [INFER, "/v2/models/m/versions/1/infer"])
async def test_flat_and_nested_data(model: Path, data: list[Any], path: str) -> None:
    async with serving(model) as (client, _):
        answer = await client.post(path, json=linear([2, 4], data, id="42"))
        assert answer.status_code == 200
        document = answer.json()
        assert (document["model_name"], document["model_version"]) == ("m", "1")
        assert document["id"] == "42"
        (output,) = document["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("y", "FP32", [2, 3])
        expected = np.array([ROW, ROW], np.float32) @ models.WEIGHTS
        np.testing.assert_allclose(output["data"], expected.reshape(-1), rtol=1e-6)


async def test_the_content_type_does_not_matter(model: Path) -> None:
    async with serving(model) as (client, _):
        for content_type in ("text/plain", "application/octet-stream", ""):
            answer = await client.post(
                INFER,
                content=json.dumps(linear([1, 4], ROW)),
                headers={"content-type": content_type},
            )
            assert answer.status_code == 200


async def test_only_the_requested_outputs_are_answered(tmp_path: Path) -> None:
    model = models.log_onnx(tmp_path / "model.onnx")
    async with serving(model) as (client, _):
        body = models.request("x", "FP32", [1, 1], [1.0])
        both = (await client.post(INFER, json=body)).json()["outputs"]
        assert [output["name"] for output in both] == ["y", "same"]
        body["outputs"] = [{"name": "same", "parameters": {"binary_data": False}}]
        (only,) = (await client.post(INFER, json=body)).json()["outputs"]
        assert only == {"name": "same", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}


async def test_nan_in_a_requested_output_is_an_error_and_counted(tmp_path: Path) -> None:
    model = models.log_onnx(tmp_path / "model.onnx")
    async with serving(model) as (client, service):
        body = models.request("x", "FP32", [1, 1], [-1.0])
        answer = await client.post(INFER, json=body)
        assert (answer.status_code, answer.json()["code"]) == (500, "non_finite")
        body["outputs"] = [{"name": "same"}]
        assert (await client.post(INFER, json=body)).status_code == 200
        value = service.metrics.registry.get_sample_value(
            "modelyard_invalid_output_total", {"model": "m", "version": "1", "revision": ""}
        )
        assert value == 1


SAMPLES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-32768, 32767],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [0.5, -65504.0],
    "FP32": [0.1, -3.4e38],
    "FP64": [0.1, 1.7e308],
    "BYTES": ["", 'größer \u2603 \\ "quoted"'],
}


@pytest.mark.parametrize("datatype", SAMPLES)
async def test_every_datatype_comes_back_as_it_was_sent(tmp_path: Path, datatype: str) -> None:
    model = models.identity_onnx(tmp_path / "model.onnx", datatype, ["batch"])
    async with serving(model) as (client, _):
        body = models.request("x", datatype, [2], SAMPLES[datatype])
        answer = await client.post(INFER, content=orjson.dumps(body))
        assert answer.status_code == 200, answer.text
        (output,) = orjson.loads(answer.content)["outputs"]
        assert output["datatype"] == datatype
        if datatype == "FP16":
            np.testing.assert_array_equal(np.array(output["data"], np.float16), SAMPLES["FP16"])
        elif datatype == "FP32":
            np.testing.assert_array_equal(
                np.array(output["data"], np.float32), np.array(SAMPLES["FP32"], np.float32)
            )
        else:
            assert output["data"] == SAMPLES[datatype]


async def test_a_request_larger_than_a_batch_is_answered_whole(model: Path) -> None:
    async with serving(model, max_batch_size=4) as (client, _):
        rows = np.random.default_rng(0).random((11, 4), np.float32)
        answer = await client.post(INFER, json=linear([11, 4], rows.reshape(-1).tolist()))
        (output,) = answer.json()["outputs"]
        assert output["shape"] == [11, 3]
        np.testing.assert_allclose(
            np.reshape(output["data"], (11, 3)), rows @ models.WEIGHTS, rtol=1e-5
        )


async def test_a_poisonous_request_fails_alone(tmp_path: Path) -> None:
    model = models.lookup_onnx(tmp_path / "model.onnx")
    async with serving(model) as (client, _):
        bodies = [models.request("i", "INT64", [1, 1], [n if n != 5 else 99]) for n in range(10)]
        answers = await asyncio.gather(*(client.post(INFER, json=body) for body in bodies))
        for n, answer in enumerate(answers):
            if n == 5:
                assert answer.status_code == 500
                assert answer.json()["code"] == "model_error"
                assert "Traceback" not in answer.text
                assert "Gather" not in answer.text
            else:
                assert answer.json()["outputs"][0]["data"] == [n]


async def test_a_model_without_a_batch_axis_runs_requests_one_by_one(tmp_path: Path) -> None:
    model = models.identity_onnx(tmp_path / "model.onnx", "FP32", [2, 3])
    async with serving(model) as (client, service):
        assert service.status()["models"][0]["batched"] is False
        bodies = [models.request("x", "FP32", [2, 3], [float(n)] * 6) for n in range(5)]
        answers = await asyncio.gather(*(client.post(INFER, json=body) for body in bodies))
        for n, answer in enumerate(answers):
            assert answer.json()["outputs"][0]["data"] == [float(n)] * 6


async def test_two_inputs_in_any_order(tmp_path: Path) -> None:
    model = models.two_inputs_onnx(tmp_path / "model.onnx")
    a = {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    b = {"name": "b", "datatype": "FP32", "shape": [1, 2], "data": [10, 20]}
    async with serving(model) as (client, _):
        for inputs in ([a, b], [b, a]):
            answer = await client.post(INFER, json={"inputs": inputs})
            assert answer.json()["outputs"][0]["data"] == [11, 22]
        uneven = {**b, "shape": [2, 2], "data": [1, 2, 3, 4]}
        answer = await client.post(INFER, json={"inputs": [a, uneven]})
        assert answer.status_code == 400
        assert "rows" in answer.json()["error"]


async def test_headers_are_on_every_answer(model: Path) -> None:
    async with serving(model, revision="m-91ab44d0", model_version="8") as (client, _):
        for path in ("/v2", "/nowhere", INFER, "/v2/models/other/infer"):
            for method in ("GET", "POST"):
                answer = await client.request(method, path)
                assert answer.headers["x-modelyard-revision"] == "m-91ab44d0"
                assert answer.headers["x-modelyard-model-version"] == "8"
                assert answer.headers["x-request-id"]


async def test_request_ids_are_echoed_when_harmless_and_made_otherwise(model: Path) -> None:
    async with serving(model) as (client, _):
        answer = await client.get("/v2", headers={"x-request-id": "abc-1.2:3/4"})
        assert answer.headers["x-request-id"] == "abc-1.2:3/4"
        made = set()
        for bad in ("a b", "x" * 129, '"quoted"', "<script>", ""):
            answer = await client.get("/nowhere", headers={"x-request-id": bad})
            assert answer.headers["x-request-id"] != bad
            assert answer.json()["request_id"] == answer.headers["x-request-id"]
            made.add(answer.headers["x-request-id"])
        assert len(made) == 5


async def test_the_path_prefix_is_stripped_at_segments_only(model: Path, tmp_path: Path) -> None:
    directives = tmp_path / "directives.json"
    directives.write_text('{"pathPrefix": "/models/fraud"}')
    async with serving(model, directives_file=directives) as (client, _):
        for prefix in ("", "/models/fraud"):
            answer = await client.post(f"{prefix}{INFER}", json=linear([1, 4], ROW))
            assert answer.status_code == 200
        assert (await client.get("/models/fraud/v2/health/ready")).status_code == 200
        answer = await client.get("/models/fraudulent/v2/health/ready")
        assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


async def test_bodies_over_the_limit_are_refused(model: Path, tmp_path: Path) -> None:
    directives = tmp_path / "directives.json"
    body = json.dumps(linear([1, 4], ROW)).encode()
    directives.write_text(json.dumps({"maxBodyBytes": len(body)}))
    sent = 0

    async def chunks(count: int) -> Any:
        nonlocal sent
        for _ in range(count):
            sent += 1
            yield b" " * 20

    async with serving(model, directives_file=directives) as (client, _):
        assert (await client.post(INFER, content=body)).status_code == 200
        answer = await client.post(INFER, content=body + b" ")
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        answer = await client.post(INFER, content=chunks(1000))  # no content-length
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_unready_answers_503_and_stays_alive(model: Path) -> None:
    service = Service(RuntimeSettings(model_name="m", model_path=model))
    async with client_of(service) as client:
        assert (await client.get("/v2/health/live")).status_code == 200
        for path in ("/v2/health/ready", "/v2/models/m", "/v2/models/m/ready"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
            assert answer.headers["retry-after"] == "1"
        answer = await client.post(INFER, json=linear([1, 4], ROW))
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


async def test_draining_is_unready_and_still_answers(model: Path) -> None:
    async with serving(model) as (client, service):
        service.drain()
        assert (await client.get("/v2/health/ready")).status_code == 503
        answer = await client.post(INFER, json=linear([1, 4], ROW))
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"


class Gate:
    """Holds a model until it is opened."""

    def __init__(self, service: Service) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        served = service.model("m", None)
        assert served is not None
        self._predict = served.model.predict
        served.model.predict = self.predict  # type: ignore[method-assign]

    def predict(self, inputs: Any) -> Any:
        self.entered.set()
        assert self.open.wait(10)
        return self._predict(inputs)


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep even tiny models off the event loop."""
    monkeypatch.setattr("modelyard_runtime.serving.INLINE_FORWARD_S", 0.0)


@pytest.mark.usefixtures("threaded")
async def test_too_many_requests_are_told_when_to_come_back(model: Path) -> None:
    async with serving(model, max_in_flight=2) as (client, service):
        gate = Gate(service)
        body = linear([1, 4], ROW)
        held = [asyncio.create_task(client.post(INFER, json=body)) for _ in range(2)]
        await asyncio.to_thread(gate.entered.wait, 10)
        while service.admission.inflight < 2:  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0)
        answer = await client.post(INFER, json=body)
        assert (answer.status_code, answer.json()["code"]) == (429, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert int(answer.headers["retry-after-ms"]) >= 1
        gate.open.set()
        assert [a.status_code for a in await asyncio.gather(*held)] == [200, 200]
        assert service.admission.inflight == 0


@pytest.mark.usefixtures("threaded")
async def test_a_deadline_is_answered_504_while_the_model_runs(model: Path) -> None:
    async with serving(model, request_timeout_s=0.1) as (client, service):
        gate = Gate(service)
        answer = await client.post(INFER, json=linear([1, 4], ROW))
        assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
        gate.open.set()


async def test_metrics_count_by_code(model: Path) -> None:
    async with serving(model, revision="r") as (client, service):
        await client.post(INFER, json=linear([1, 4], ROW))
        await client.post(INFER, json={})
        labels = {"model": "m", "version": "1", "revision": "r"}
        sample = service.metrics.registry.get_sample_value
        for code in ("200", "400"):
            got = sample("modelyard_requests_total", {**labels, "protocol": "rest", "code": code})
            assert got == 1
        assert sample("modelyard_request_duration_seconds_count", labels) == 2
        assert sample("modelyard_inflight_requests", labels) == 0
        assert sample("modelyard_queue_requests", labels) == 0
        assert sample("modelyard_batch_size_count", labels) == 1
        assert sample("modelyard_model_state", {**labels, "state": "Ready"}) == 1
        assert sample("modelyard_model_state", {**labels, "state": "Loading"}) == 0


async def test_a_bug_is_answered_in_the_common_shape(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(model) as (client, service):
        monkeypatch.setattr(service, "model", lambda *_: 1 / 0)
        for method, path in (("POST", INFER), ("GET", "/v2/models/m")):
            answer = await client.request(method, path, json={})
            assert answer.status_code == 500
            assert answer.json()["code"] == "internal"
            assert "division" not in answer.text
