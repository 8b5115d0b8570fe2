"""Recorded requests, answered and compared before a model turns ready."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.lifecycle import State
from testkit.runtime_models import WEIGHTS, linear_onnx, save_onnx, value
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from pathlib import Path

ROW = [0.0, 1.0, 2.0, 3.0]
ANSWER = (np.array([ROW], np.float32) @ WEIGHTS)[0].tolist()


def request(row: list[float] = ROW, name: str = "x") -> dict[str, Any]:
    tensor = {"name": name, "datatype": "FP32", "shape": [1, 4], "data": row}
    return {"inputs": [tensor]}


def recording(data: list[float] = ANSWER, **tensor: Any) -> dict[str, Any]:
    output = {"name": "y", "datatype": "FP32", "shape": [1, 3], "data": data, **tensor}
    return {"request": request(), "response": {"outputs": [output]}}


def written(tmp_path: Path, document: Any, name: str = "golden.json") -> tuple[Path, ...]:
    path = tmp_path / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return (path,)


async def test_golden_requests_that_agree_are_told_in_the_status(tmp_path: Path) -> None:
    files = written(tmp_path, [recording(), recording(data=[a * 1.0005 for a in ANSWER])])
    async with serving(linear_onnx(tmp_path / "m.onnx"), verification_files=files) as (_, service):
        assert service.status()["verification"] == {
            "outcome": "Passed",
            "requests": 2,
            "problem": None,
        }
        assert service.ready


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (recording(data=[a + 0.01 for a in ANSWER]), "3 of 3 values differ: at [0, 0] recorded"),
        (recording(shape=[3]), "recorded shape [3], got [1, 3]"),
        (recording(name="z"), "output 'z' is recorded, the model gives 'y'"),
        (recording(shape=[2, 3]), "the recording cannot be read"),
        ({**recording(), "request": request(name="a")}, "unknown input 'a'"),
    ],
    ids=["values", "shape", "name", "malformed", "request"],
)
async def test_a_golden_request_that_disagrees_keeps_the_model_from_serving(
    tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    files = written(tmp_path, [recording(), wrong])
    with pytest.raises(StartupError) as caught:
        async with serving(linear_onnx(tmp_path / "m.onnx"), verification_files=files):
            pass
    assert caught.value.reason is Reason.VERIFICATION_FAILED
    assert caught.value.message.startswith("golden.json, request 2: ")
    assert words in caught.value.message


async def test_a_promoted_revision_reports_and_serves(tmp_path: Path) -> None:
    directives = tmp_path / "directives.json"
    directives.write_text('{"verification": "Report"}')
    files = written(tmp_path, [recording(data=[9.0, 9.0, 9.0])])
    async with serving(
        linear_onnx(tmp_path / "m.onnx"), verification_files=files, directives_file=directives
    ) as (client, service):
        assert service.status()["verification"]["outcome"] == "Failed"
        assert "3 of 3 values differ" in service.status()["verification"]["problem"]
        assert (await client.post("/v2/models/m/infer", json=request())).status_code == 200


async def test_the_tolerance_is_the_users(tmp_path: Path) -> None:
    files = written(tmp_path, [recording(data=[a * 1.05 for a in ANSWER])])
    model = linear_onnx(tmp_path / "m.onnx")
    async with serving(model, verification_files=files, verification_tolerance=0.1) as (_, service):
        assert service.ready


async def test_verification_counts_in_no_request_metric(tmp_path: Path) -> None:
    files = written(tmp_path, [recording()])
    async with serving(linear_onnx(tmp_path / "m.onnx"), verification_files=files) as (_, service):
        samples = [s for f in service.metrics.registry.collect() for s in f.samples]
    assert not [s for s in samples if s.name == "modelyard_requests_total" and s.value]


async def test_warm_up_requests_are_answered_as_often_as_asked(tmp_path: Path) -> None:
    one = written(tmp_path, request(), "one.json")
    two = written(tmp_path, [request(), request()], "two.json")
    async with serving(
        linear_onnx(tmp_path / "m.onnx"), warmup_files=(*one, *two), warmup_iterations=2
    ) as (_, service):
        (served,) = service.repository.served
        assert served.statistics.document("m", "1")["execution_count"] == 6
        assert service.lifecycle.state is State.READY


async def test_a_warm_up_request_that_cannot_be_answered_names_its_file(tmp_path: Path) -> None:
    files = written(tmp_path, [request(), request(name="a")])
    with pytest.raises(StartupError, match=r"golden.json, request 2: unknown input 'a'") as caught:
        async with serving(linear_onnx(tmp_path / "m.onnx"), warmup_files=files):
            pass
    assert caught.value.reason is Reason.WARMUP_FAILED


async def test_a_warm_up_answer_must_be_finite(tmp_path: Path) -> None:
    from onnx import helper, numpy_helper  # noqa: PLC0415 - one test's

    seven = numpy_helper.from_array(np.full(4, 7, np.float32), "seven")
    model = save_onnx(
        tmp_path / "m.onnx",
        [
            helper.make_node("Sub", ["x", "seven"], ["off"]),
            helper.make_node("Reciprocal", ["off"], ["y"]),
        ],
        [value("x", "FP32", ["batch", 4])],
        [value("y", "FP32", ["batch", 4])],
        [seven],
    )
    files = written(tmp_path, request([7.0, 1.0, 1.0, 1.0]))
    with pytest.raises(StartupError, match="'y' holds NaN or infinity") as caught:
        async with serving(model, warmup_files=files):
            pass
    assert caught.value.reason is Reason.WARMUP_FAILED


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "golden.json is not JSON"),
        ("[]", "expected an object or a list of objects"),
        ([{"request": request()}], "request 1: expected an object with 'request' and 'response'"),
        ([{**recording(), "response": {"outputs": [{}]}}], "named tensors"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: Any, words: str
) -> None:
    files = written(tmp_path, content)
    with pytest.raises(StartupError) as caught:
        async with serving(linear_onnx(tmp_path / "m.onnx"), verification_files=files):
            pass
    assert caught.value.reason is Reason.INVALID_SETTINGS
    assert words in caught.value.message


async def test_a_reload_is_verified_too(tmp_path: Path) -> None:
    files = written(tmp_path, [recording()])
    model = linear_onnx(tmp_path / "m.onnx")
    async with serving(model, verification_files=files, control="explicit") as (client, service):
        save_onnx_doubled(model)
        answer = await client.post("/v2/repository/models/m/load")
        assert answer.status_code == 400
        assert "VerificationFailed" in answer.json()["error"]
        served = await client.post("/v2/models/m/infer", json=request())
        assert served.json()["outputs"][0]["data"] == pytest.approx(ANSWER)
        assert service.ready


def save_onnx_doubled(path: Path) -> None:
    from onnx import helper, numpy_helper  # noqa: PLC0415

    save_onnx(
        path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", "FP32", ["batch", 4])],
        [value("y", "FP32", ["batch", 3])],
        [numpy_helper.from_array(WEIGHTS * 2, "w")],
    )
