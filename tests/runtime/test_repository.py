"""Several models in one process: loaded, replaced and unloaded while requests run."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from modelyard_runtime.call import Call
from modelyard_runtime.errors import ForbiddenError, NotFoundError, NotReadyError, StartupError
from modelyard_runtime.grpc_api import inference_pb2 as pb
from modelyard_runtime.grpc_api.servicer import Servicer
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


def call_of() -> Call:
    return Call("r", "grpc", time.perf_counter(), time.monotonic() + 60)


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


async def test_the_reason_of_each_broken_model_is_in_the_index(tmp_path: Path) -> None:
    put(tmp_path, "good")
    put(tmp_path, "file").write_bytes(b"no model")
    models.nan_onnx(put(tmp_path, "nan"))
    put(tmp_path, "hook").with_name("handler.py").write_text("1 / 0")
    put(tmp_path, "yaml")
    (tmp_path / "yaml" / "model.yaml").write_text("batching: {max_sise: 3}")
    put(tmp_path, "stray").with_name("model.yaml").write_text("device: CPU")
    put(tmp_path, "other")
    (tmp_path / "other" / "model.yaml").write_text("name: another")
    service = service_of(tmp_path, allow_pickle=True)
    with capture_logs() as logs:
        await service.start()
    reasons = {row["name"]: row["reason"] for row in service.repository.index()}
    expected = {
        "good": "",
        "file": "InvalidArtifact: model.onnx",
        "nan": "WarmupFailed: the model loads, but a first inference of 1 rows gives NaN",
        "hook": "InvalidHandler: handler.py: line 1: ZeroDivisionError",
        "yaml": "InvalidSettings: yaml/model.yaml: batching.max_sise: unknown key",
        "stray": "InvalidSettings: 1/model.yaml: it belongs beside the folders of versions",
        "other": "InvalidSettings: other/model.yaml: name is 'another'",
    }
    assert set(reasons) == set(expected)
    for name, beginning in expected.items():
        assert reasons[name].startswith(beginning), reasons[name]
        logged = [line for line in logs if line.get("log_level") == "error"]
        assert (name == "good") is not any(line["model"] == name for line in logged)
    assert not service.ready
    async with client_of(service) as client:
        assert (await infer(client, "nan")).status_code == 503
    service.close()


@pytest.mark.parametrize(
    ("policy", "served", "latest"),
    [
        ("", ["10"], "10"),
        ("versions: {policy: latest, n: 2}", ["9", "10"], "10"),
        ("versions: {policy: all}", ["2", "9", "10"], "10"),
        ("versions: {policy: specific, only: [2, 9]}", ["2", "9"], "9"),
    ],
)
async def test_a_policy_says_which_versions_are_served(
    tmp_path: Path, policy: str, served: list[str], latest: str
) -> None:
    for version in ("2", "9", "10"):
        put(tmp_path, "a", version)
    (tmp_path / "a" / "model.yaml").write_text(policy)
    service = service_of(tmp_path)
    await service.start()
    async with client_of(service) as client:
        assert (await client.get("/v2/models/a")).json()["versions"] == served
        assert (await infer(client, "a")).json()["model_version"] == latest
        for version in ("2", "9", "10"):
            answer = await client.post(f"/v2/models/a/versions/{version}/infer", json=ROW)
            if version in served:
                assert answer.json()["model_version"] == version
            else:
                assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")
            asked = pb.ModelInferRequest(model_name="a", model_version=version)
            asked.inputs.add(name="x", datatype="FP32", shape=[1, 4])
            asked.raw_input_contents.append(np.ones(4, np.float32).tobytes())
            rpc = Servicer(service, lambda _: 0)._answer(asked, call_of())
            if version in served:
                assert (await rpc).model_version == version
            else:
                with pytest.raises(NotFoundError):
                    await rpc
    service.close()


async def test_a_version_that_is_not_there_cannot_be_served(tmp_path: Path) -> None:
    put(tmp_path, "a")
    (tmp_path / "a" / "model.yaml").write_text("versions: {policy: specific, only: [1, 4]}")
    with pytest.raises(StartupError, match=r"asks for version 4, there are 1"):
        await service_of(tmp_path).start()


async def test_hooks_are_replaced_with_their_model_and_drop_no_request(tmp_path: Path) -> None:
    """Each answer is of one load: what its preprocess added, its postprocess takes away."""
    put(tmp_path, "a")
    handler = tmp_path / "a" / "handler.py"

    def write(number: int) -> None:
        handler.write_text(
            "import asyncio\n"
            "def preprocess(request, ctx):\n"
            f"    return {{'x': request.inputs['x'] * 0 + {number}}}\n"
            "async def postprocess(outputs, ctx):\n"
            "    await asyncio.sleep(0)\n"
            f"    return {{'y': outputs['y'], 'load': outputs['y'] * 0 + {number}}}\n"
        )

    write(1)
    service = service_of(tmp_path, allow_pickle=True)
    await service.start()
    reloaded = asyncio.Event()
    seen: set[float] = set()

    async def ask(client: httpx.AsyncClient) -> None:
        while not reloaded.is_set():
            answer = await infer(client, "a")
            assert answer.status_code == 200, answer.text
            y, load = (np.array(each["data"]) for each in answer.json()["outputs"])
            np.testing.assert_allclose(y, load[0] * models.WEIGHTS.sum(axis=0), rtol=1e-5)
            seen.add(load[0])

    async def reload() -> None:
        try:
            for number in range(2, 5):
                write(number)
                await service.repository.load("a")
                await service.repository.settle()
                assert (await infer(client, "a")).json()["outputs"][1]["data"][0] == number
        finally:
            reloaded.set()

    async with client_of(service) as client:
        await asyncio.gather(*(ask(client) for _ in range(4)), reload())
        assert seen == {1, 2, 3, 4}
        last = asyncio.create_task(infer(client, "a"))
        while not service.model("a", None)._holders:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
        await service.repository.unload("a")
        assert (await last).status_code == 200
        await service.repository.settle()
        assert (await infer(client, "a")).status_code == 503
    service.close()


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


async def test_a_replaced_model_is_gone(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    put(tmp_path, "a")
    service = service_of(tmp_path)
    await service.start()
    replaced = weakref.ref(service.repository.served[0].model)
    gc.disable()  # it would not look at what was there at the start anyway
    request.addfinalizer(gc.enable)
    await service.repository.load("a")
    await service.repository.settle()
    assert replaced() is None
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
