"""V1: rows and columns as TensorFlow Serving writes them, names as KServe asks for them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from onnx import helper

from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

PREDICT = "/v1/models/m:predict"


async def predicted(client: httpx.AsyncClient, body: Any, path: str = PREDICT) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def test_rows_of_values(tmp_path: Path) -> None:
    async with serving(models.linear_onnx(tmp_path / "m.onnx")) as (client, _):
        rows = [[1, 0, 0, 0], [0, 1.0, 0, 0]]
        expected = {"predictions": [pytest.approx([0, 0.1, 0.2]), pytest.approx([0.3, 0.4, 0.5])]}
        assert await predicted(client, {"instances": rows}) == expected
        assert await predicted(client, {"instances": [{"x": row} for row in rows]}) == expected
        versioned = "/v1/models/m/versions/1:predict"
        assert await predicted(client, {"instances": rows}, versioned) == expected


async def test_columns(tmp_path: Path) -> None:
    async with serving(models.linear_onnx(tmp_path / "m.onnx")) as (client, _):
        expected = {"outputs": [pytest.approx([0, 0.1, 0.2])]}
        assert await predicted(client, {"inputs": [[1, 0, 0, 0]]}) == expected
        assert await predicted(client, {"inputs": {"x": [[1, 0, 0, 0]]}}) == expected
        named = {"signature_name": "serving_default", "inputs": [[1, 0, 0, 0]]}
        assert await predicted(client, named) == expected


async def test_several_inputs_and_outputs_go_by_name(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    async with serving(models.two_inputs_onnx(tmp_path / "two" / "m.onnx")) as (client, _):
        rows = [{"a": [1, 2], "b": [3, 4]}, {"a": [5, 6], "b": [7, 8]}]
        assert await predicted(client, {"instances": rows}) == {"predictions": [[4, 6], [12, 14]]}
        columns = {"a": [[1, 2]], "b": [[3, 4]]}
        assert await predicted(client, {"inputs": columns}) == {"outputs": [[4, 6]]}
    async with serving(models.log_onnx(tmp_path / "m.onnx")) as (client, _):
        assert await predicted(client, {"instances": [[1], [1]]}) == {
            "predictions": [{"y": [0], "same": [1]}, {"y": [0], "same": [1]}]
        }
        assert await predicted(client, {"inputs": [[1]]}) == {
            "outputs": {"y": [[0]], "same": [[1]]}
        }


async def test_text_and_bytes(tmp_path: Path) -> None:
    model = models.identity_onnx(tmp_path / "m.onnx", "BYTES", ["batch"])
    raw = {"b64": base64.b64encode(b"caf\xc3\xa9").decode()}
    async with serving(model) as (client, _):
        asked = {"instances": ["word", raw]}
        assert await predicted(client, asked) == {"predictions": ["word", "café"]}
        assert await predicted(client, {"inputs": {"x": [raw]}}) == {"outputs": ["café"]}


async def test_a_model_that_does_not_answer_in_rows_is_asked_in_columns(tmp_path: Path) -> None:
    model = models.save_onnx(
        tmp_path / "m.onnx",
        [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])],
        [models.value("x", "FP32", [1, 3])],
        [models.value("y", "FP32", [3, 1])],
    )
    async with serving(model) as (client, _):
        answer = await client.post(PREDICT, json={"instances": [[1, 2, 3]]})
        assert answer.status_code == 400
        assert "ask with 'inputs'" in answer.json()["error"]
        assert await predicted(client, {"inputs": [[1, 2, 3]]}) == {"outputs": [[1], [2], [3]]}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "malformed"),
        ({"instances": [[1, 2, 3, 4]], "inputs": [[1, 2, 3, 4]]}, "malformed"),
        ({"instances": {"x": [1, 2, 3, 4]}}, "malformed"),
        ({"instances": []}, "invalid_input"),
        ({"instances": [[1, 2, 3]]}, "invalid_input"),
        ({"instances": [[1, 2, 3, 4], [1, 2, 3]]}, "invalid_input"),
        ({"instances": [[1, 2, 3, 4], {"x": [1, 2, 3, 4]}]}, "invalid_input"),
        ({"instances": [{"x": [1, 2, 3, 4]}, {"z": [1, 2, 3, 4]}]}, "invalid_input"),
        ({"instances": [{"z": [1, 2, 3, 4]}]}, "invalid_input"),
        ({"instances": [{"b64": "AAAA"}]}, "invalid_input"),
        ({"instances": [[1, 2, 3, "4"]]}, "invalid_input"),
        ({"inputs": {"x": [[1, 2, 3, 4]], "z": 1}}, "invalid_input"),
        ({"inputs": 1}, "invalid_input"),
        ({"inputs": None}, "invalid_input"),
        ({"inputs": [[1, 2, 3, 4]], "signature_name": "other"}, "invalid_input"),
    ],
)
async def test_what_is_neither_format_is_refused(tmp_path: Path, body: Any, code: str) -> None:
    async with serving(models.linear_onnx(tmp_path / "m.onnx")) as (client, _):
        answer = await client.post(PREDICT, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text


async def test_models_are_listed(tmp_path: Path) -> None:
    async with serving(models.linear_onnx(tmp_path / "m.onnx")) as (client, service):
        assert (await client.get("/v1/models")).json() == {"models": ["m"]}
        for path in ("/v1/models/m", "/v1/models/m/versions/1"):
            assert (await client.get(path)).json() == {"name": "m", "ready": True}
        assert (await client.get("/v1/models/other")).status_code == 404
        service.drain()
        assert (await client.get("/v1/models/m")).json() == {"name": "m", "ready": False}


@pytest.mark.parametrize("path", ["/v1/models/m:explain", "/v1/models/m/versions/1:regress"])
async def test_other_verbs_are_not_there(tmp_path: Path, path: str) -> None:
    async with serving(models.linear_onnx(tmp_path / "m.onnx")) as (client, _):
        for method in ("GET", "POST"):
            answer = await client.request(method, path)
            assert answer.status_code == 404
            assert answer.json()["code"] == "model_not_found"
        assert (await client.get(PREDICT)).status_code == 405
