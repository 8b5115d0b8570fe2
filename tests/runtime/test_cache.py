"""Answers that are kept, and questions that are asked once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelyard_runtime.errors import DeadlineExceededError, InferenceError
from modelyard_runtime.inference import Question
from modelyard_runtime.response_cache import ResponseCache, question_key
from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Array, Arrays
    from modelyard_runtime.service import Service

INFER = "/v2/models/m/infer"
BODY = models.request("x", "FP32", [1, 4], [1, 2, 3, 4])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Model:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.cancelled = 0
        self.answer: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> Arrays:
        self.asked += 1
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def ones(count: int = 4) -> Arrays:
    return (np.ones(count, np.float32),)


async def at_once() -> Arrays:
    return ones()


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_is_known_is_not_computed() -> None:
    cache = ResponseCache(60, 10_000)
    model = Model()
    model.answer.set_result(ones())
    first, known = await cache.answer(b"a", model)
    assert not known
    again, known = await cache.answer(b"a", model)
    assert known
    assert model.asked == 1
    np.testing.assert_array_equal(first[0], again[0])
    assert not again[0].flags.writeable
    assert again[0] is not first[0]
    await cache.answer(b"b", model)
    assert model.asked == 2


async def test_what_is_too_old_or_too_much_is_computed_again() -> None:
    clock = Clock()
    cache = ResponseCache(60, 3000, clock)
    for key in (b"a", b"b", b"c"):
        await cache.answer(key, at_once)
    assert 1500 < cache.nbytes <= 3000
    await cache.answer(b"a", at_once)  # used again: b is now the oldest
    for number in range(4):
        await cache.answer(b"%d" % number, at_once)
    assert cache.nbytes <= 3000
    clock.now = 61
    assert (await cache.answer(b"3", at_once))[1] is False

    async def large() -> Arrays:
        return ones(10_000)

    await cache.answer(b"large", large)
    assert (await cache.answer(b"large", large))[1] is False


async def test_the_least_recently_used_goes_first() -> None:
    cache = ResponseCache(60, 2 * (512 + 16))
    await cache.answer(b"a", at_once)
    await cache.answer(b"b", at_once)
    await cache.answer(b"a", at_once)
    await cache.answer(b"c", at_once)
    assert (await cache.answer(b"a", at_once))[1] is True
    assert (await cache.answer(b"b", at_once))[1] is False


async def test_equal_questions_are_asked_once() -> None:
    cache = ResponseCache(60, 10_000)
    model = Model()
    tasks = [asyncio.create_task(cache.answer(b"a", model)) for _ in range(5)]
    await turns()
    model.answer.set_result(ones())
    assert [known for _, known in await asyncio.gather(*tasks)] == [False, True, True, True, True]
    assert model.asked == 1


async def test_those_who_wait_outlive_the_one_who_asked() -> None:
    cache = ResponseCache(60, 10_000)
    model = Model()
    first, second = (asyncio.create_task(cache.answer(b"a", model)) for _ in range(2))
    await turns()
    first.cancel()
    await turns()
    assert model.cancelled == 0
    model.answer.set_result(ones())
    assert (await second)[1] is True
    assert first.cancelled()


async def test_nothing_is_computed_for_nobody() -> None:
    cache = ResponseCache(60, 10_000)
    model = Model()
    tasks = [asyncio.create_task(cache.answer(b"a", model)) for _ in range(2)]
    await turns()
    for task in tasks:
        task.cancel()
    await turns()
    assert model.cancelled == 1
    later = asyncio.create_task(cache.answer(b"a", model))  # does not join what was given up
    await turns()
    assert model.asked == 2
    model.answer.set_result(ones())
    assert (await later)[1] is False


async def test_errors_are_shared_and_not_kept() -> None:
    cache = ResponseCache(60, 10_000)
    model = Model()
    tasks = [asyncio.create_task(cache.answer(b"a", model)) for _ in range(2)]
    await turns()
    model.answer.set_exception(InferenceError("no"))
    for task in tasks:
        with pytest.raises(InferenceError):
            await task
    assert (await cache.answer(b"a", at_once))[1] is False


async def test_the_haste_of_one_is_not_the_error_of_another() -> None:
    cache = ResponseCache(60, 10_000)
    hasty, patient = Model(), Model()
    first = asyncio.create_task(cache.answer(b"a", hasty))
    await turns()
    second = asyncio.create_task(cache.answer(b"a", patient))
    await turns()
    hasty.answer.set_exception(DeadlineExceededError("too late"))
    with pytest.raises(DeadlineExceededError):
        await first
    patient.answer.set_result(ones())
    assert (await second)[1] is False
    assert (hasty.asked, patient.asked) == (1, 1)


def question(*arrays: Array, **parameters: Any) -> Question:
    return Question(None, arrays, (0,), None, 1, parameters)


def test_a_key_names_all_that_an_answer_depends_on() -> None:
    base = np.arange(6, dtype=np.float32)
    strings = np.array([b"ab", b"c"], object)
    different = [
        question(base),
        question(base + 1),
        question(base.reshape(2, 3)),
        question(base.astype(np.int32)),
        question(base.view(np.int32)),
        question(base, base),
        question(base, top_k=3),
        question(strings),
        question(np.array([b"a", b"bc"], object)),
    ]
    assert len({question_key(each) for each in different}) == len(different)
    same = [
        question(base),
        question(np.arange(12, dtype=np.float32)[::2] / 2),
        question(base, timeout=5, priority=1, binary_data_output=True),
        question(base)._replace(request_id="7", outputs=()),
    ]
    assert len({question_key(each) for each in same}) == 1


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    models.linear_onnx(folder / "model.onnx")
    (tmp_path / "m" / "model.yaml").write_text("cache: {enabled: true}")
    return tmp_path / "m"


def value(service: Service, name: str) -> float:
    labels = {"model": "m", "version": "1", "revision": ""}
    return service.metrics.registry.get_sample_value(f"modelyard_{name}", labels) or 0


async def test_a_kept_answer_is_marked_and_counted(model: Path) -> None:
    async with serving(model) as (client, service):
        first = await client.post(INFER, json=BODY)
        again = await client.post(INFER, json=BODY)
        assert "x-modelyard-cache" not in first.headers
        assert again.headers["x-modelyard-cache"] == "hit"
        assert again.content == first.content
        wanted = BODY | {"id": "9", "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
        binary = await client.post(INFER, json=wanted)
        assert binary.headers["x-modelyard-cache"] == "hit"
        assert binary.content.endswith(
            (np.array([[1, 2, 3, 4]], np.float32) @ models.WEIGHTS).tobytes()
        )
        other = await client.post(INFER, json=models.request("x", "FP32", [1, 4], [9, 2, 3, 4]))
        assert "x-modelyard-cache" not in other.headers
        assert (value(service, "cache_hits_total"), value(service, "cache_misses_total")) == (2, 2)
        assert value(service, "cache_bytes") > 0
        (stats,) = (await client.get("/v2/models/m/stats")).json()["model_stats"]
        assert stats["inference_stats"]["cache_hit"]["count"] == 2
        assert stats["inference_stats"]["cache_miss"]["count"] == 2
        assert stats["execution_count"] == 2


async def test_a_reload_forgets_what_was_kept(model: Path) -> None:
    async with serving(model, control="explicit") as (client, service):
        await client.post(INFER, json=BODY)
        await service.repository.reload("m")
        answer = await client.post(INFER, json=BODY)
        assert "x-modelyard-cache" not in answer.headers
        await service.repository.settle()


async def test_without_being_asked_nothing_is_kept(tmp_path: Path) -> None:
    path = models.linear_onnx(tmp_path / "model.onnx")
    async with serving(path) as (client, service):
        for _ in range(2):
            answer = await client.post(INFER, json=BODY)
            assert "x-modelyard-cache" not in answer.headers
        assert value(service, "cache_misses_total") == 0
