"""Several models in one process: loaded, replaced and unloaded while requests run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelyard_runtime.errors import ForbiddenError, NotFoundError, NotReadyError, StartupError
from modelyard_runtime.service import Service
from modelyard_runtime.settings import RuntimeSettings
from testkit import runtime_models as models
from testkit.runtime_serving import client_of

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

ROW = models.request("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])


def put(repository: Path, name: str, version: str = "1") -> Path:
    folder = repository / name / version
    folder.mkdir(parents=True)
    return models.linear_onnx(folder / "model.onnx")


def service_of(repository: Path, **settings: Any) -> Service:
    return Service(RuntimeSettings(model_repository=repository, threads=1, **settings))


async def infer(client: httpx.AsyncClient, name: str) -> httpx.Response:
    return await client.post(f"/v2/models/{name}/infer", json=ROW)


async def test_every_model_of_the_repository_is_served(tmp_path: Path) -> None:
    put(tmp_path, "a")
    put(tmp_path, "b", "7")
    service = service_of(tmp_path)
    await service.start()
    async with client_of(service) as client:
        assert (await infer(client, "a")).json()["model_version"] == "1"
        assert (await infer(client, "b")).json()["model_version"] == "7"
        missing = await infer(client, "c")
        assert (missing.status_code, missing.json()["code"]) == (404, "model_not_found")
        value = service.metrics.registry.get_sample_value(
            "modelyard_requests_total",
            {"model": "b", "version": "7", "revision": "", "protocol": "rest", "code": "200"},
        )
        assert value == 1
    service.close()


async def test_a_broken_model_keeps_the_server_unready_but_not_the_others_out(
    tmp_path: Path,
) -> None:
    put(tmp_path, "a")
    put(tmp_path, "b").write_bytes(b"no model")
    service = service_of(tmp_path)
    await service.start()
    async with client_of(service) as client:
        assert (await infer(client, "a")).status_code == 200
        assert (await infer(client, "b")).status_code == 503
        assert (await client.get("/v2/health/ready")).status_code == 503
    (_, broken) = service.repository.index()
    assert (broken["name"], broken["state"]) == ("b", "UNAVAILABLE")
    assert "model.onnx" in broken["reason"]
    assert [row["name"] for row in service.repository.index(ready_only=True)] == ["a"]
    service.close()


async def test_nothing_to_serve_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="holds no model"):
        await service_of(tmp_path).start()
    put(tmp_path, "b").write_bytes(b"no model")
    with pytest.raises(StartupError, match=r"model\.onnx"):
        await service_of(tmp_path).start()


async def test_a_reload_drops_no_request(tmp_path: Path) -> None:
    put(tmp_path, "a")
    service = service_of(tmp_path)
    await service.start()
    expected = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32) @ models.WEIGHTS
    reloaded = asyncio.Event()
    answers = 0

    async def ask(client: httpx.AsyncClient) -> None:
        nonlocal answers
        while not reloaded.is_set():
            answer = await infer(client, "a")
            assert answer.status_code == 200
            (output,) = answer.json()["outputs"]
            np.testing.assert_allclose(output["data"], expected.reshape(-1), rtol=1e-6)
            answers += 1

    async def reload() -> None:
        try:
            for _ in range(5):
                before = service.model("a", None)
                await service.repository.load("a")
                assert service.model("a", None) is not before
                await service.repository.settle()
        finally:
            reloaded.set()

    async with client_of(service) as client:
        await asyncio.gather(*(ask(client) for _ in range(4)), reload())
    assert answers > 0
    service.close()


async def test_a_failed_reload_keeps_the_old_model(tmp_path: Path) -> None:
    path = put(tmp_path, "a")
    service = service_of(tmp_path)
    await service.start()
    good = path.read_bytes()
    path.write_bytes(b"no model")
    with pytest.raises(StartupError):
        await service.repository.load("a")
    (row,) = service.repository.index()
    assert row["state"] == "READY"
    assert "model.onnx" in row["reason"]
    async with client_of(service) as client:
        assert (await infer(client, "a")).status_code == 200
        path.write_bytes(good)
        await service.repository.load("a")
        assert service.repository.index()[0]["reason"] == ""
    service.close()


async def test_unloading_waits_for_those_who_hold_the_model(tmp_path: Path) -> None:
    put(tmp_path, "a")
    service = service_of(tmp_path)
    await service.start()
    with service.model("a", None) as held:
        await service.repository.unload("a")
        with pytest.raises(NotReadyError):
            service.model("a", None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await service.repository.settle()
        future = held.batcher.submit(
            (np.ones((1, 4), np.float32),), key=None, rows=1, deadline=float("inf")
        )
        assert (await future)[0].shape == (1, 3)
    await service.repository.settle()
    with pytest.raises(NotFoundError):
        await service.repository.unload("never")
    service.close()


def test_the_control_api_is_closed_unless_it_is_opened(tmp_path: Path) -> None:
    async def check(control: str) -> None:
        service_of(tmp_path, control=control).repository.require_control()

    with pytest.raises(ForbiddenError, match="MODELYARD_CONTROL"):
        asyncio.run(check("none"))
    asyncio.run(check("explicit"))
