"""Who is let in, over REST and over gRPC, and what of it is counted."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import numpy as np
import pytest
from structlog.testing import capture_logs

from modelyard_runtime.app import create_app
from modelyard_runtime.grpc_api import inference_pb2 as pb
from testkit import runtime_models as models
from testkit.runtime_serving import grpc_channel, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from modelyard_runtime.service import Service

INFER = "/v2/models/m/infer"
BODY = models.request("x", "FP32", [1, 4], [1, 2, 3, 4])
KEY = {"X-API-Key": "opensesame"}
SERVICE = "/inference.GRPCInferenceService"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.linear_onnx(tmp_path / "model.onnx")


@pytest.fixture
def guarded(tmp_path: Path) -> dict[str, Path]:
    """Settings of a runtime that asks for API keys; alice's is ``opensesame``."""
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "alice").write_text("opensesame")
    directives = tmp_path / "directives.json"
    directives.write_text(json.dumps({"auth": {"type": "APIKey"}}))
    return {"keys_dir": keys, "directives_file": directives}


def count(service: Service, name: str, **labels: str) -> float:
    own = {"model": "m", "version": "1", "revision": ""}
    return service.metrics.registry.get_sample_value(f"modelyard_{name}", own | labels) or 0


async def until_answered(client: httpx.AsyncClient, headers: dict[str, str] | None = None) -> None:
    """Ask until the change of a file has been noticed; the test's time-out ends it otherwise."""
    while (await client.post(INFER, json=BODY, headers=headers)).status_code != 200:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def question() -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    raw = np.arange(4, dtype=np.float32).tobytes()
    return pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[raw])


async def infer(channel: Any, **metadata: str) -> Any:
    rpc = channel.unary_unary(
        f"{SERVICE}/ModelInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelInferResponse.FromString,
    )
    pairs = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
    return await rpc(question(), metadata=pairs)


async def test_only_keys_open_the_data_plane(model: Path, guarded: dict[str, Any]) -> None:
    async with serving(model, **guarded) as (client, service):
        answer = await client.post(INFER, json=BODY)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["code"] == "unauthorized"
        answer = await client.post(INFER, json=BODY, headers={"X-API-Key": "wrong"})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (await client.post(INFER, json=BODY, headers=KEY)).status_code == 200
        bearer = {"Authorization": "Bearer opensesame"}
        assert (await client.post(INFER, json=BODY, headers=bearer)).status_code == 200
        assert service.admission.inflight == 0
        assert count(service, "rejected_total", reason="unauthorized") == 2
        assert count(service, "requests_total", protocol="rest", code="401") == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2"),
        ("GET", "/v2/models/m"),
        ("GET", "/v2/models/m/ready"),
        ("GET", "/v2/models/m/config"),
        ("GET", "/v2/models/stats"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/m/load"),
        ("GET", "/nothing"),
    ],
)
async def test_what_tells_of_models_is_closed_too(
    model: Path, guarded: dict[str, Any], method: str, path: str
) -> None:
    async with serving(model, **guarded, control="explicit") as (client, _):
        assert (await client.request(method, path)).status_code == 401
        answer = await client.request(method, path, headers=KEY)
        assert answer.status_code == (404 if path == "/nothing" else 200)


async def test_health_is_open_to_everybody(model: Path, guarded: dict[str, Any]) -> None:
    async with serving(model, **guarded) as (client, service):
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert (await client.get(path)).status_code == 200
        async with grpc_channel(service) as channel:
            live = channel.unary_unary(
                f"{SERVICE}/ServerReady",
                pb.ServerReadyRequest.SerializeToString,
                pb.ServerReadyResponse.FromString,
            )
            assert (await live(pb.ServerReadyRequest())).ready


async def test_the_body_of_a_stranger_is_not_read(model: Path, guarded: dict[str, Any]) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("it was asked for")
        yield b""  # pragma: no cover

    async with serving(model, **guarded) as (client, _):
        assert (await client.post(INFER, content=body())).status_code == 401


async def test_grpc_asks_for_keys_in_its_own_words(model: Path, guarded: dict[str, Any]) -> None:
    async with serving(model, **guarded) as (_, service), grpc_channel(service) as channel:
        for metadata, status in (
            ({}, grpc.StatusCode.UNAUTHENTICATED),
            ({"x_api_key": "wrong"}, grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await infer(channel, **metadata)
            assert caught.value.code() == status
        assert (await infer(channel, x_api_key="opensesame")).model_name == "m"
        assert count(service, "rejected_total", reason="unauthorized") == 2

        metadata_rpc = channel.unary_unary(
            f"{SERVICE}/ModelMetadata",
            pb.ModelMetadataRequest.SerializeToString,
            pb.ModelMetadataResponse.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await metadata_rpc(pb.ModelMetadataRequest(name="m"))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        key = (("authorization", "Bearer opensesame"),)
        assert (await metadata_rpc(pb.ModelMetadataRequest(name="m"), metadata=key)).name == "m"

        stream = channel.stream_stream(
            f"{SERVICE}/ModelStreamInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelStreamInferResponse.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stream(iter([question()])):
                pass
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        answers = [answer async for answer in stream(iter([question()]), metadata=key)]
        assert [answer.error_message for answer in answers] == [""]


async def test_keys_and_directives_change_while_it_runs(
    model: Path, guarded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("auth.authenticator", "directives"):
        monkeypatch.setattr(f"modelyard_runtime.{module}.POLL_S", 0.01)
    async with serving(model, **guarded) as (client, service):
        watching = asyncio.create_task(service.watch())
        bob = {"X-API-Key": "friend"}
        assert (await client.post(INFER, json=BODY, headers=bob)).status_code == 403
        (guarded["keys_dir"] / "bob").write_text("friend")
        await until_answered(client, bob)
        guarded["directives_file"].write_text("{}")
        await until_answered(client)
        watching.cancel()


async def test_nobody_comes_in_before_the_directives(model: Path, tmp_path: Path) -> None:
    directives = tmp_path / "directives.json"
    async with serving(model, directives_file=directives) as (client, service):
        for answer in (await client.post(INFER, json=BODY), await client.get("/v2/models/m")):
            assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
            assert "retry-after" in answer.headers
        assert (await client.get("/v2/health/ready")).status_code == 200
        directives.write_text('{"auth": 5}')
        service.directives.poll()
        assert (await client.post(INFER, json=BODY)).status_code == 503
        directives.write_text("{}")
        service.directives.poll()
        assert (await client.post(INFER, json=BODY)).status_code == 200


def limited(tmp_path: Path, **limit: Any) -> Path:
    path = tmp_path / "limits.json"
    path.write_text(json.dumps({"rateLimit": limit}))
    return path


async def test_a_caller_beyond_its_rate_is_told_when_to_come_back(
    model: Path, tmp_path: Path
) -> None:
    directives = limited(tmp_path, requestsPerSecond=0.01, burst=2)
    async with serving(model, directives_file=directives) as (client, service):
        codes = [(await client.post(INFER, json=BODY)).status_code for _ in range(2)]
        assert codes == [200, 200]
        answer = await client.post(INFER, json=BODY)
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert 90 <= int(answer.headers["retry-after"]) <= 100
        assert 90_000 <= int(answer.headers["retry-after-ms"]) <= 100_000
        assert count(service, "rejected_total", reason="rate_limited") == 1
        elsewhere = httpx.ASGITransport(create_app(service), client=("10.9.8.7", 1))
        async with httpx.AsyncClient(transport=elsewhere, base_url="http://test") as other:
            assert (await other.post(INFER, json=BODY)).status_code == 200
        async with grpc_channel(service) as channel:  # the same address by another protocol
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await infer(channel)
            trailers = dict(caught.value.trailing_metadata())
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert trailers["code"] == "rate_limited"
            assert 90 <= int(trailers["retry-after"]) <= 100
        assert service.admission.inflight == 0


async def test_principals_are_limited_wherever_they_are(
    model: Path, guarded: dict[str, Any]
) -> None:
    limit = {"requestsPerSecond": 0.01, "burst": 1}
    (guarded["keys_dir"] / "bob").write_text("friend")
    guarded["directives_file"].write_text(
        json.dumps({"auth": {"type": "APIKey"}, "rateLimit": limit})
    )
    async with serving(model, **guarded) as (client, _):
        assert (await client.post(INFER, json=BODY, headers=KEY)).status_code == 200
        assert (await client.post(INFER, json=BODY, headers=KEY)).status_code == 429
        bob = {"X-API-Key": "friend"}
        assert (await client.post(INFER, json=BODY, headers=bob)).status_code == 200
        # A stranger takes nothing from anybody's bucket.
        assert (await client.post(INFER, json=BODY)).status_code == 401


async def test_a_callers_concurrency_is_bounded(model: Path, tmp_path: Path) -> None:
    directives = limited(tmp_path, requestsPerSecond=1000, concurrency=1)
    arrived = asyncio.Event()
    go_on = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        arrived.set()
        await go_on.wait()
        yield json.dumps(BODY).encode()

    async with serving(model, directives_file=directives) as (client, _):
        first = asyncio.create_task(client.post(INFER, content=body()))
        await arrived.wait()
        assert (await client.post(INFER, json=BODY)).status_code == 429
        go_on.set()
        assert (await first).status_code == 200
        assert (await client.post(INFER, json=BODY)).status_code == 200


async def test_a_copy_counts_nowhere(model: Path, tmp_path: Path) -> None:
    directives = limited(tmp_path, requestsPerSecond=0.01, burst=1)
    async with serving(model, directives_file=directives, max_in_flight=1) as (client, service):
        service.admission.is_copy = lambda header: header("x-copy") == "yes"
        for _ in range(3):
            answer = await client.post(INFER, json=BODY, headers={"X-Copy": "yes"})
            assert answer.status_code == 200
        assert count(service, "requests_total", protocol="rest", code="200") == 0
        assert (await client.post(INFER, json=BODY)).status_code == 200
        assert (await client.post(INFER, json=BODY)).status_code == 429


async def test_a_limit_that_grpc_cannot_follow_is_told(model: Path, tmp_path: Path) -> None:
    directives = tmp_path / "directives.json"
    directives.write_text('{"maxBodyBytes": 1000}')
    async with serving(model, directives_file=directives) as (_, service), grpc_channel(service):
        with capture_logs() as logs:
            directives.write_text('{"maxBodyBytes": 500}')
            service.directives.poll()
            directives.write_text('{"maxBodyBytes": 90000000}')
            service.directives.poll()
        warnings = [log for log in logs if log["log_level"] == "warning"]
        assert [log["wanted"] for log in warnings] == [90_000_000]
