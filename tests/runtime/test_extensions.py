"""Every extension that is announced works, and every one of Triton's that works is announced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from modelyard_runtime.extensions import EXTENSIONS
from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from pathlib import Path

Probe = Callable[[httpx.AsyncClient], Awaitable[bool]]

INFER = "/v2/models/m/infer"


def asked(**words: Any) -> dict[str, Any]:
    return {**models.request("x", "FP32", [1, 4], [0, 0, 0, 1]), **words}


async def binary_tensor_data(client: httpx.AsyncClient) -> bool:
    answer = await client.post(INFER, json=asked(parameters={"binary_data_output": True}))
    length = int(answer.headers["inference-header-content-length"])
    return len(answer.content) == length + 3 * 4


async def classification(client: httpx.AsyncClient) -> bool:
    outputs = [{"name": "y", "parameters": {"classification": 1}}]
    answer = await client.post(INFER, json=asked(outputs=outputs))
    return bool(answer.json()["outputs"][0]["data"] == ["1.100000:2"])


async def generate(client: httpx.AsyncClient) -> bool:
    body = {"x": [0, 0, 0, 1]}
    answers = [
        await client.post(f"/v2/models/m/{verb}", json=body)
        for verb in ("generate", "generate_stream")
    ]
    return [answer.status_code for answer in answers] == [200, 200]


async def model_configuration(client: httpx.AsyncClient) -> bool:
    answer = await client.get("/v2/models/m/config")
    return bool(answer.json()["input"][0]["dims"] == [4])


async def model_repository(client: httpx.AsyncClient) -> bool:
    await client.post("/v2/repository/models/m/unload")
    gone = await client.get("/v2/models/m/ready")
    await client.post("/v2/repository/models/m/load")
    back = await client.get("/v2/models/m/ready")
    index = (await client.post("/v2/repository/index")).json()
    return gone.is_error and back.is_success and index[0]["state"] == "READY"


async def parameters(client: httpx.AsyncClient) -> bool:
    answer = await client.post(INFER, json=asked(parameters={"own": "word", "n": 1.5}))
    return answer.is_success


async def schedule_policy(client: httpx.AsyncClient) -> bool:
    late = await client.post(INFER, json=asked(parameters={"timeout": 1}))
    urgent = await client.post(INFER, json=asked(parameters={"priority": 1, "timeout": 10**7}))
    return late.status_code == 504 and urgent.is_success


async def statistics(client: httpx.AsyncClient) -> bool:
    def count(answer: httpx.Response) -> int:
        found: int = answer.json()["model_stats"][0]["inference_count"]
        return found

    before = count(await client.get("/v2/models/m/stats"))
    await client.post(INFER, json=asked())
    return count(await client.get("/v2/models/m/stats")) == before + 1


def found(path: str) -> Probe:
    async def probe(client: httpx.AsyncClient) -> bool:
        return (await client.get(path)).is_success

    return probe


async def sequence(client: httpx.AsyncClient) -> bool:
    """A sequence's rest must be refused where its start was never seen."""
    words = {"sequence_id": 7, "sequence_start": False}
    return (await client.post(INFER, json=asked(parameters=words))).is_error


PROBES: Final[dict[str, Probe]] = {
    "binary_tensor_data": binary_tensor_data,
    "classification": classification,
    "cuda_shared_memory": found("/v2/cudasharedmemory/status"),
    "generate": generate,
    "logging": found("/v2/logging"),
    "model_configuration": model_configuration,
    "model_repository": model_repository,
    "parameters": parameters,
    "schedule_policy": schedule_policy,
    "sequence": sequence,
    "statistics": statistics,
    "system_shared_memory": found("/v2/systemsharedmemory/status"),
    "trace": found("/v2/trace/setting"),
}
"""All of Triton's, but for ``model_repository(unload_dependents)``: no model depends on another."""


def test_all_that_are_announced_are_asked() -> None:
    assert set(EXTENSIONS) <= set(PROBES)
    assert list(EXTENSIONS) == sorted(EXTENSIONS)


@pytest.mark.parametrize("name", PROBES)
async def test_announced_is_what_works(tmp_path: Path, name: str) -> None:
    model = models.linear_onnx(tmp_path / "m.onnx")
    async with serving(model, control="explicit") as (client, _):
        works = await PROBES[name](client)
        announced = (await client.get("/v2")).json()["extensions"]
        assert works == (name in announced)
