"""A handler's hooks around a served model: over REST and gRPC, in time, and off the engine thread."""

from __future__ import annotations

import asyncio
import math
import re
import sys
import textwrap
import threading
import time
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper

from modelyard_runtime.call import Call
from modelyard_runtime.errors import DeadlineExceededError, InferenceError
from modelyard_runtime.inference import Question
from modelyard_runtime.service import Service
from modelyard_runtime.settings import RuntimeSettings
from testkit import runtime_models as models
from testkit.runtime_serving import client_of, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

LENGTHS = """
    import numpy as np
    from modelyard_runtime import InvalidInput

    def preprocess(request, ctx):
        words = request.inputs["text"]
        if not words[0]:
            raise InvalidInput("text is empty")
        ctx.counter("texts_total", len(words))
        row = np.array([[len(word), 0, 0, 0] for word in words], np.float32)
        return {"x": row * request.parameters.get("scale", 1)}
"""
TEXT_CONFIG = "inputs: [{name: text, dtype: BYTES, shape: [-1]}]\n"


@asynccontextmanager
async def hooked(
    folder: Path, handler: str, config: str = "", **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    """Serve the linear model with a handler around it."""
    models.linear_onnx(folder / "model.onnx")
    (folder / "handler.py").write_text(textwrap.dedent(handler))
    if config:
        (folder / "model.yaml").write_text(config)
    async with serving(folder, **settings) as served:
        yield served


async def infer(client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    return await client.post("/v2/models/m/infer", json=body)


def row(*values: float) -> dict[str, Any]:
    return models.request("x", "FP32", [1, 4], list(values) or [1.0, 2.0, 3.0, 4.0])


def call_of(timeout_s: float = 60) -> Call:
    return Call("r", "rest", time.perf_counter(), time.monotonic() + timeout_s)


def question(*values: float) -> Question:
    array = np.array([values or (1, 2, 3, 4)], np.float32)
    return Question(None, (array,), (0,), None, 1)


async def test_the_guide_works_as_written(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "hooks.md").read_text()
    blocks = {
        kind: re.search(rf"^```{kind}\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)
        for kind in ("python", "yaml")
    }
    for kind, name in (("python", "handler.py"), ("yaml", "model.yaml")):
        found = blocks[kind]
        assert found is not None
        (tmp_path / name).write_text(found[1])
    models.save_onnx(
        tmp_path / "model.onnx",
        [helper.make_node("Identity", ["x"], ["scores"])],
        [models.value("x", "FP32", ["batch", 2])],
        [models.value("scores", "FP32", ["batch", 2])],
    )
    async with serving(tmp_path) as (client, _):
        asked = models.request("text", "BYTES", [2], ["ab", "  "])
        answer = await client.post("/v2/models/m/infer", json=asked)
        (output,) = answer.json()["outputs"]
        assert (output["name"], output["data"]) == ("label", ["short", "short"])
        refused = await client.post(
            "/v2/models/m/infer", json=models.request("text", "BYTES", [1], [""])
        )
        assert refused.json()["error"] == "a text is empty"


async def test_what_callers_send_is_what_preprocess_takes(tmp_path: Path) -> None:
    async with hooked(tmp_path, LENGTHS, TEXT_CONFIG) as (client, service):
        metadata = (await client.get("/v2/models/m")).json()
        assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        body = models.request("text", "BYTES", [2], ["four", "longer"])
        answer = await infer(client, {**body, "parameters": {"scale": 2}})
        (output,) = answer.json()["outputs"]
        assert output["shape"] == [2, 3]
        np.testing.assert_allclose(
            output["data"], np.outer([8, 12], models.WEIGHTS[0]).reshape(-1), rtol=1e-6
        )
        refused = await infer(client, models.request("text", "BYTES", [1], [""]))
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_input")
        assert refused.json()["error"] == "text is empty"
        labels = {"model": "m", "version": "1", "revision": ""}
        assert service.metrics.registry.get_sample_value("texts_total", labels) == 2


async def test_texts_of_unequal_requests_meet_in_one_batch(tmp_path: Path) -> None:
    async with hooked(tmp_path, LENGTHS, TEXT_CONFIG, max_delay_ms=2000, max_batch_size=4) as (
        client,
        service,
    ):
        asked = [models.request("text", "BYTES", [1], ["a" * n]) for n in range(1, 5)]
        answers = await asyncio.gather(*(infer(client, each) for each in asked))
        assert [a.json()["outputs"][0]["data"][1] for a in answers] == pytest.approx(
            [n * models.WEIGHTS[0, 1] for n in range(1, 5)]
        )
        (stats,) = [served.statistics_document() for served in service.repository.served]
        assert [batch["batch_size"] for batch in stats["batch_stats"]] == [4]


async def test_postprocess_declares_what_callers_get_by_what_it_gives(tmp_path: Path) -> None:
    handler = """
        import numpy as np

        async def postprocess(outputs, ctx):
            best = outputs["y"].argmax(axis=1)
            return {"class": best, "name": np.array([b"abc"[i:i + 1] for i in best], object)}
    """
    async with hooked(tmp_path, handler) as (client, _):
        metadata = (await client.get("/v2/models/m")).json()
        assert metadata["outputs"] == [
            {"name": "class", "datatype": "INT64", "shape": [-1]},
            {"name": "name", "datatype": "BYTES", "shape": [-1]},
        ]
        answer = await infer(client, {**row(), "outputs": [{"name": "name"}]})
        assert answer.json()["outputs"] == [
            {"name": "name", "datatype": "BYTES", "shape": [1], "data": ["c"]}
        ]


@pytest.mark.parametrize(
    "handler",
    [
        "def preprocess(request): raise KeyError('secret')",
        "def preprocess(request): return {'z': 1}",
        "def preprocess(request): return {'x': [[1, 2]]}",
        "async def postprocess(outputs): raise ValueError('secret')",
    ],
)
async def test_a_hook_that_fails_fails_its_request_alone(tmp_path: Path, handler: str) -> None:
    async with hooked(tmp_path, handler) as (client, _):
        answer = await infer(client, row())
        assert (answer.status_code, answer.json()["code"]) == (500, "model_error")
        assert "secret" not in answer.text


async def test_hooks_run_off_the_event_loop_and_off_the_engine_thread(tmp_path: Path) -> None:
    handler = """
        import threading
        import numpy as np

        def preprocess(request, ctx):
            ctx.counter("on_main_total", threading.current_thread() is threading.main_thread())
            return {"x": np.full((1, 4), threading.get_ident() % 2**20, np.float32)}
    """
    async with hooked(tmp_path, handler) as (client, service):
        assert (await infer(client, row())).status_code == 200
        labels = {"model": "m", "version": "1", "revision": ""}
        assert service.metrics.registry.get_sample_value("on_main_total", labels) == 0
        assert any(thread.name == "hooks" for thread in threading.enumerate())


async def test_a_hook_that_hangs_meets_the_deadline(tmp_path: Path) -> None:
    handler = """
        import asyncio

        async def preprocess(request, ctx):
            await asyncio.Event().wait()
    """
    async with hooked(tmp_path, handler, "queue: {default_timeout_ms: 20}") as (client, _):
        answer = await infer(client, row())
        assert (answer.status_code, answer.json()["code"]) == (504, "timeout")


async def test_too_many_values_are_too_large(tmp_path: Path) -> None:
    async with hooked(tmp_path, "def postprocess(outputs): pass", "limits: {max_elements: 7}") as (
        client,
        _,
    ):
        assert (await infer(client, row())).status_code == 200
        answer = await infer(client, models.request("x", "FP32", [2, 4], [0.0] * 8))
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert "8 values" in answer.json()["error"]


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_stream_gives_its_parts(tmp_path: Path, kind: str) -> None:
    handler = f"""
        {kind} stream(request, ctx):
            for word in ("Hello", "world"):
                yield {{"text": word, "n": len(word)}}
            yield "."
    """
    async with hooked(tmp_path, handler) as (_, service):
        served = service.model("m", None)
        parts = [part async for part in served.stream(question(), call_of())]
        assert [part["text"].item() for part in parts[:2]] == [b"Hello", b"world"]
        assert parts[2]["y"].item() == b"."
        labels = {"model": "m", "version": "1", "revision": ""}
        seen = "modelyard_time_to_first_output_seconds_count"
        assert service.metrics.registry.get_sample_value(seen, labels) == 1


async def test_a_model_that_cannot_stream_answers_in_one_part(tmp_path: Path) -> None:
    async with serving(models.linear_onnx(tmp_path / "m.onnx")) as (_, service):
        parts = [p async for p in service.model("m", None).stream(question(), call_of())]
        assert [list(part) for part in parts] == [["y"]]


async def test_a_stream_that_falls_silent_ends(tmp_path: Path) -> None:
    handler = """
        import asyncio

        async def stream(request, ctx):
            yield 1
            try:
                await asyncio.Event().wait()
            finally:
                ctx.counter("closed_total")
    """
    async with hooked(tmp_path, handler, stream_idle_s=0.5) as (_, service):
        parts = service.model("m", None).stream(question(), call_of())
        assert (await anext(parts))["y"].item() == 1
        with pytest.raises(DeadlineExceededError, match="silent"):
            await anext(parts)
        labels = {"model": "m", "version": "1", "revision": ""}
        assert service.metrics.registry.get_sample_value("closed_total", labels) == 1


async def test_a_stream_that_fails_says_nothing_of_its_code(tmp_path: Path) -> None:
    handler = """
        def stream(request, ctx):
            yield 1
            raise ValueError("secret")
    """
    async with hooked(tmp_path, handler) as (_, service):
        parts = service.model("m", None).stream(question(), call_of(math.inf))
        await anext(parts)
        with pytest.raises(InferenceError) as caught:
            await anext(parts)
        assert "secret" not in str(caught.value)


async def test_each_handler_imports_the_helper_beside_it(tmp_path: Path) -> None:
    """Two models and a reload: one name, three files."""

    def write(name: str, number: int) -> None:
        folder = tmp_path / name
        (folder / "1").mkdir(parents=True, exist_ok=True)
        models.linear_onnx(folder / "1" / "model.onnx")
        (folder / "numbers_beside.py").write_text(f"NUMBER = {number}\n")
        (folder / "handler.py").write_text(
            "from numbers_beside import NUMBER\n"
            "def postprocess(outputs, ctx):\n"
            "    return {'y': outputs['y'] * 0 + NUMBER}\n"
        )

    async def number(client: httpx.AsyncClient, name: str) -> float:
        answer = await client.post(f"/v2/models/{name}/infer", json=row())
        first: float = answer.json()["outputs"][0]["data"][0]
        return first

    write("a", 1)
    write("b", 2)
    service = Service(RuntimeSettings(model_repository=tmp_path, threads=1, allow_pickle=True))
    await service.start()
    async with client_of(service) as client:
        assert [await number(client, name) for name in "ab"] == [1, 2]
        write("a", 33)
        await service.repository.load("a")
        assert [await number(client, name) for name in "ab"] == [33, 2]
    await service.repository.settle()
    handlers = [name for name in sys.modules if name.startswith("modelyard_handler_")]
    service.close()
    left = [name for name in sys.modules if name.startswith("modelyard_handler_")]
    assert len(handlers) - len(left) == 2
    assert "numbers_beside" not in sys.modules


async def test_a_stream_that_is_left_is_closed_after_its_step(tmp_path: Path) -> None:
    handler = """
        import threading

        step, go = threading.Event(), threading.Event()

        def stream(request, ctx):
            try:
                yield 1
                step.set()
                go.wait()
                yield 2
            finally:
                ctx.counter("closed_total")
    """
    async with hooked(tmp_path, handler, stream_idle_s=1) as (_, service):
        served = service.model("m", None)
        module = sys.modules[served.hooks._found["stream"].__module__]
        parts = served.stream(question(), call_of())
        await anext(parts)
        with pytest.raises(DeadlineExceededError):
            await anext(parts)
        assert module.step.is_set()
        module.go.set()
        labels = {"model": "m", "version": "1", "revision": ""}
        closed = partial(service.metrics.registry.get_sample_value, "closed_total", labels)
        async with asyncio.timeout(20):
            while not closed():  # noqa: ASYNC110 - another thread closes it
                await asyncio.sleep(0.001)


async def test_what_nobody_waits_for_any_more_does_not_run(tmp_path: Path) -> None:
    handler = """
        import threading

        go = threading.Event()

        def preprocess(request, ctx):
            ctx.counter("ran_total")
            go.wait()
    """
    async with hooked(tmp_path, handler, "queue: {default_timeout_ms: 50}") as (client, service):
        hooks = service.model("m", None).hooks
        answers = await asyncio.gather(*(infer(client, row()) for _ in range(7)))
        assert {answer.status_code for answer in answers} == {504}
        sys.modules[hooks._found["preprocess"].__module__].go.set()
        labels = {"model": "m", "version": "1", "revision": ""}
        await hooks._threads.run(int)  # behind all that was waiting
        assert service.metrics.registry.get_sample_value("ran_total", labels) == 4
