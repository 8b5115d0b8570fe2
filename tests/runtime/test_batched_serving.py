"""What ``batching`` and ``queue`` of a model's configuration do to its callers."""

from __future__ import annotations

import asyncio
import textwrap
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from modelyard_runtime.api.problems import STATUS
from modelyard_runtime.call import Call
from modelyard_runtime.errors import (
    NotReadyError,
    OutOfMemoryError,
    OverloadedError,
    RequestError,
    StartupError,
)
from modelyard_runtime.grpc_api.statuses import STATUS as GRPC_STATUS
from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from modelyard_runtime.service import Service

INFER = "/v2/models/m/infer"

POOLING = """
    from pathlib import Path

    import numpy as np

    class Pooling:
        def predict(self, tokens, mask):
            assert set(np.unique(mask)) <= {0, 1}
            with Path(__file__).with_name("shapes.txt").open("a") as shapes:
                print(*tokens.shape, file=shapes)
            seen = tokens * mask
            mean = seen.sum(1) / np.maximum(mask.sum(1), 1)
            return {"mean": mean.astype(np.float32), "seen": seen.astype(np.float32)}
"""
POOLING_CONFIG = """
    inputs:
      - {name: tokens, dtype: INT64, shape: [-1, -1], pad_value: 5}
      - {name: mask, dtype: INT64, shape: [-1, -1]}
    outputs:
      - {name: mean, dtype: FP32, shape: [-1]}
      - {name: seen, dtype: FP32, shape: [-1, -1]}
    batching:
      max_size: 8
      max_delay_ms: 2000
      buckets: [2, 4]
      sequence: {input: tokens, mask: mask, buckets: [4, 8]}
"""


def request(tokens: list[list[int]]) -> dict[str, Any]:
    flat = [token for row in tokens for token in row]
    return models.request("tokens", "INT64", [len(tokens), len(tokens[0])], flat)


@asynccontextmanager
async def pooling(
    folder: Path, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    (folder / "handler.py").write_text(textwrap.dedent(POOLING))
    (folder / "model.yaml").write_text(textwrap.dedent(POOLING_CONFIG))
    async with serving(folder, **settings) as served:
        yield served


def sample(service: Service, name: str, **labels: str) -> float | None:
    of_model = {"model": "m", "version": "1", "revision": "", **labels}
    return service.metrics.registry.get_sample_value(f"modelyard_{name}", of_model)


async def test_sequences_of_different_lengths_meet_in_one_padded_batch(tmp_path: Path) -> None:
    async with pooling(tmp_path) as (client, service):
        rows = [[[1, 2, 3]], [[4]], [[5, 6], [7, 8]]]
        answers = await asyncio.gather(*(client.post(INFER, json=request(each)) for each in rows))
        outputs = [{o["name"]: o for o in answer.json()["outputs"]} for answer in answers]
        assert [output["mean"]["data"] for output in outputs] == [[2.0], [4.0], [5.5, 7.5]]
        assert [output["seen"]["shape"] for output in outputs] == [[1, 3], [1, 1], [2, 2]]
        assert outputs[2]["seen"]["data"] == [5, 6, 7, 8]
        assert sample(service, "batches_total", trigger="full") == 1
        assert sample(service, "batch_fill_ratio_sum") == 1.0
        assert sample(service, "padding_ratio_sum") == pytest.approx(1 - 8 / 16)


async def test_a_sequence_that_no_bucket_holds(tmp_path: Path) -> None:
    async with pooling(tmp_path, max_delay_ms=0) as (client, _):
        answer = await client.post(INFER, json=request([[1] * 9]))
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
        assert "at most 8 elements, got 9" in answer.json()["error"]
        only_mask = models.request("mask", "INT64", [1, 2], [1, 1])
        answer = await client.post(INFER, json=only_mask)
        assert (answer.status_code, answer.json()["error"]) == (400, "missing input: 'tokens'")


async def test_every_padded_shape_is_run_before_the_first_caller(tmp_path: Path) -> None:
    async with pooling(tmp_path):
        shapes = (tmp_path / "shapes.txt").read_text().splitlines()
        assert {"2 4", "2 8", "4 4", "4 8"} <= set(shapes)


async def test_rows_are_padded_to_buckets_and_never_exceed_the_largest(tmp_path: Path) -> None:
    model = models.linear_onnx(tmp_path / "model.onnx")
    async with serving(model, buckets=(2, 4, 64), max_batch_size=8) as (client, service):
        served = service.model("m", None)
        assert served.batcher.limits.max_rows == 4
        assert served.batcher.limits.buckets == (2, 4)
        data = np.arange(28, dtype=np.float32).reshape(7, 4)
        body = models.request("x", "FP32", [7, 4], data.reshape(-1).tolist())
        (output,) = (await client.post(INFER, json=body)).json()["outputs"]
        (expected,) = served.model.predict((data,))
        assert output["shape"] == [7, 3]
        np.testing.assert_allclose(np.reshape(output["data"], (7, 3)), expected, rtol=1e-5)
        assert sample(service, "padding_ratio_count") == 2
        assert sample(service, "padding_ratio_sum") == pytest.approx(1 / 4)


async def test_buckets_that_no_batch_can_reach_are_refused(tmp_path: Path) -> None:
    model = models.linear_onnx(tmp_path / "model.onnx")
    with pytest.raises(StartupError, match="the smallest is 16, a batch may hold 8 rows"):
        async with serving(model, buckets=(16,), max_batch_size=8):
            pass


async def test_a_target_is_shown_as_a_cap_and_a_wait(tmp_path: Path) -> None:
    model = models.linear_onnx(tmp_path / "model.onnx")
    async with serving(model, target_latency_ms=50, max_delay_ms=5, max_batch_size=8) as (
        client,
        service,
    ):
        body = models.request("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])
        assert (await client.post(INFER, json=body)).status_code == 200
        assert sample(service, "controller_max_batch") == 8
        assert sample(service, "controller_wait_seconds") == pytest.approx(0.005)
        assert sample(service, "controller_predicted_drain_seconds") == 0
        assert sample(service, "queue_bytes") == 0
        assert sample(service, "batches_total", trigger="delay") == 1


async def test_a_requests_priority_and_timeout_reach_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.linear_onnx(tmp_path / "model.onnx")
    async with serving(model) as (client, service):
        batcher = service.model("m", None).batcher
        submit, seen = batcher.submit, {}

        async def spying(item: Any, **how: Any) -> Any:
            seen.update(how)
            return await submit(item, **how)

        monkeypatch.setattr(batcher, "submit", spying)
        body = models.request("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])
        asked = {**body, "parameters": {"priority": 3, "timeout": 9_000_000}}
        before = time.monotonic()
        assert (await client.post(INFER, json=asked)).status_code == 200
        assert (seen["priority"], seen["rows"], seen["nbytes"]) == (3, 1, 16)
        assert seen["deadline"] - before == pytest.approx(9, abs=4)
        assert "schedule_policy" in (await client.get("/v2")).json()["extensions"]


@pytest.mark.parametrize("error", [OutOfMemoryError("no memory left"), NotReadyError("restarting")])
async def test_errors_of_the_engine_have_their_place_in_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RequestError
) -> None:
    model = models.linear_onnx(tmp_path / "model.onnx")
    async with serving(model) as (client, service):

        def predict(_: Any) -> Any:
            raise error

        monkeypatch.setattr(service.model("m", None).model, "predict", predict)
        body = models.request("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])
        answer = await client.post(INFER, json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, error.code)
    assert set(GRPC_STATUS) == set(STATUS)
    assert GRPC_STATUS[OutOfMemoryError] is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("reason", ["queue_full", "predicted_late", "in_flight"])
async def test_requests_that_are_turned_away_are_counted_by_reason(
    tmp_path: Path, reason: str
) -> None:
    model = models.linear_onnx(tmp_path / "model.onnx")
    async with serving(model) as (_, service):
        call = Call("r", "rest", time.perf_counter(), 0.0, served=service.model("m", None))
        error = OverloadedError("full", retry_after_s=1.0, reason=reason)
        service.journal.finish(call, 429, error)
        assert sample(service, "rejected_total", reason=reason) == 1
