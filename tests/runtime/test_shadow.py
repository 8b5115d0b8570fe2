"""Copies of live requests: what is sent, what is compared, and what they must not touch."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uvicorn

from modelyard_runtime.app import create_app
from modelyard_runtime.shadow.agreement import agree
from testkit.runtime_models import WEIGHTS, linear_onnx, save_onnx, value
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from modelyard_runtime.service import Service

TOKEN = "t0ken"  # noqa: S105 - a test's
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


def negated_onnx(path: Path) -> Path:
    """A model whose highest score is where the other's is lowest."""
    from onnx import helper, numpy_helper  # noqa: PLC0415

    return save_onnx(
        path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", "FP32", ["batch", 4])],
        [value("y", "FP32", ["batch", 3])],
        [numpy_helper.from_array(-WEIGHTS, "w")],
    )


@asynccontextmanager
async def listening(service: Service) -> AsyncIterator[str]:
    """Give a service a socket."""
    config = uvicorn.Config(create_app(service), port=0, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.shutdown()


def directives(tmp_path: Path, name: str, **keys: Any) -> Path:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(keys))
    return path


def counted(service: Service, name: str) -> float:
    """Sum a counter over its labels."""
    families = service.metrics.registry.collect()
    return sum(s.value for f in families for s in f.samples if s.name == f"{name}_total")


async def until(service: Service, name: str, count: float) -> None:
    async with asyncio.timeout(10):
        while counted(service, f"modelyard_shadow_{name}") < count:  # noqa: ASYNC110 - a counter
            await asyncio.sleep(0.005)


@asynccontextmanager
async def shadowed(
    tmp_path: Path, candidate_model: Path, *, percent: float = 100, token: str = TOKEN
) -> AsyncIterator[tuple[httpx.AsyncClient, Service, Service]]:
    """A stable revision that copies to a candidate."""
    own = directives(tmp_path, "candidate", shadowToken=TOKEN)
    stable_model = linear_onnx(tmp_path / "stable.onnx")
    async with (
        serving(candidate_model, directives_file=own) as (_, candidate),
        listening(candidate) as url,
    ):
        shadow = {"url": url, "percent": percent, "token": token}
        path = directives(tmp_path, "stable", shadow=shadow)
        async with serving(stable_model, directives_file=path) as (client, stable):
            yield client, stable, candidate


async def test_a_candidate_that_answers_alike_agrees(tmp_path: Path) -> None:
    async with shadowed(tmp_path, linear_onnx(tmp_path / "c.onnx")) as (client, stable, _):
        for _ in range(5):
            assert (await client.post("/v2/models/m/infer", json=BODY)).status_code == 200
        await until(stable, "agreements", 5)
        assert counted(stable, "modelyard_shadow_requests") == 5
        assert counted(stable, "modelyard_shadow_disagreements") == 0
        assert counted(stable, "modelyard_shadow_errors") == 0


async def test_a_candidate_that_answers_otherwise_disagrees(tmp_path: Path) -> None:
    async with shadowed(tmp_path, negated_onnx(tmp_path / "c.onnx")) as (client, stable, _):
        assert (await client.post("/v2/models/m/infer", json=BODY)).status_code == 200
        await until(stable, "disagreements", 1)


async def test_requests_of_every_protocol_are_copied(tmp_path: Path) -> None:
    async with shadowed(tmp_path, linear_onnx(tmp_path / "c.onnx")) as (client, stable, _):
        for path, body in (
            ("/v2/models/m/infer", BODY),
            ("/v1/models/m:predict", {"instances": [[1, 2, 3, 4]]}),
            ("/predict/m", [[1, 2, 3, 4]]),
        ):
            answer = await client.post(path, json=body)
            assert answer.status_code == 200, answer.text
        await until(stable, "agreements", 3)


async def test_copies_count_nowhere_at_the_candidate(tmp_path: Path) -> None:
    async with shadowed(tmp_path, linear_onnx(tmp_path / "c.onnx")) as (client, stable, candidate):
        await client.post("/v2/models/m/infer", json=BODY)
        await until(stable, "agreements", 1)
        assert counted(candidate, "modelyard_requests") == 0
        assert counted(stable, "modelyard_requests") == 1


async def test_with_a_wrong_token_it_is_a_request_like_any_other(tmp_path: Path) -> None:
    model = linear_onnx(tmp_path / "c.onnx")
    async with shadowed(tmp_path, model, token="guess") as (client, stable, candidate):  # noqa: S106
        await client.post("/v2/models/m/infer", json=BODY)
        await until(stable, "agreements", 1)
        assert counted(candidate, "modelyard_requests") == 1


async def test_a_refused_copy_is_an_error_and_the_caller_never_notices(tmp_path: Path) -> None:
    from onnx import helper  # noqa: PLC0415

    other = save_onnx(
        tmp_path / "c.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", "FP32", ["batch", 7])],
        [value("y", "FP32", ["batch", 7])],
    )
    async with shadowed(tmp_path, other) as (client, stable, _):
        assert (await client.post("/v2/models/m/infer", json=BODY)).status_code == 200
        await until(stable, "errors", 1)
        assert counted(stable, "modelyard_shadow_agreements") == 0


async def test_a_copy_that_reaches_nobody_says_nothing_of_the_answers(tmp_path: Path) -> None:
    shadow = {"url": "http://127.0.0.1:9", "percent": 100, "token": TOKEN}
    path = directives(tmp_path, "stable", shadow=shadow)
    async with serving(linear_onnx(tmp_path / "s.onnx"), directives_file=path) as (client, stable):
        assert (await client.post("/v2/models/m/infer", json=BODY)).status_code == 200
        await until(stable, "dropped", 1)
        assert counted(stable, "modelyard_shadow_errors") == 0


async def test_only_answered_requests_are_copied_and_only_the_share(tmp_path: Path) -> None:
    model = linear_onnx(tmp_path / "c.onnx")
    async with shadowed(tmp_path, model, percent=50) as (client, stable, _):
        lots = iter([0.1, 0.9, 0.49, 0.5])
        stable._shadow._chance = lambda: next(lots)
        assert (await client.post("/v2/models/m/infer", json={})).status_code == 400
        for _ in range(4):
            await client.post("/v2/models/m/infer", json=BODY)
        await until(stable, "agreements", 2)
        assert counted(stable, "modelyard_shadow_requests") == 2


async def test_what_finds_no_room_is_dropped_and_counted(tmp_path: Path) -> None:
    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()  # takes the request, answers nothing, until the caller leaves
        finally:
            writer.close()

    server = await asyncio.start_server(stuck, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    shadow = {"url": f"http://127.0.0.1:{port}", "percent": 100, "token": TOKEN}
    path = directives(tmp_path, "stable", shadow=shadow)
    async with serving(linear_onnx(tmp_path / "s.onnx"), directives_file=path) as (client, stable):
        for _ in range(80):
            assert (await client.post("/v2/models/m/infer", json=BODY)).status_code == 200
        await until(stable, "dropped", 1)
        assert counted(stable, "modelyard_shadow_requests") == 4
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([[0.1, 0.9]], [[0.4, 0.6]], True),
        ([[0.1, 0.9]], [[0.6, 0.4]], False),
        ([[1.0]], [[1.0005]], True),
        ([[1.0]], [[1.1]], False),
        ([[np.nan]], [[np.nan]], True),
        ([1, 2], [1, 2], True),
        ([1, 2], [1, 3], False),
        ([[1.0]], [1.0], False),
    ],
)
def test_what_agreement_means(ours: list[Any], theirs: list[Any], verdict: bool) -> None:  # noqa: FBT001
    assert agree({"y": np.array(ours)}, {"y": np.array(theirs)}) is verdict


def test_an_output_that_is_missing_disagrees_and_a_further_one_does_not() -> None:
    one = np.ones(1)
    assert not agree({"y": one}, {})
    assert agree({"y": one}, {"y": one, "z": one})
