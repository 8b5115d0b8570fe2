"""The gRPC client that everybody has, unmodified, against a real process over real sockets."""

from __future__ import annotations

import asyncio
import queue
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tritonclient.utils import InferenceServerException

from modelyard_runtime.api.problems import STATUS as HTTP_STATUS
from modelyard_runtime.grpc_api import inference_pb2 as pb
from modelyard_runtime.grpc_api.statuses import STATUS
from testkit import runtime_models as models
from testkit.runtime_serving import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testkit.runtime_serving import Running

pytestmark = pytest.mark.slow

DATATYPES = sorted(models.ONNX_TYPES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("grpc")
    for datatype in DATATYPES:
        place = folder / "models" / f"identity-{datatype.lower()}" / "1"
        place.mkdir(parents=True)
        models.identity_onnx(place / "model.onnx", datatype, ["batch", "n"])
    arguments = ("serve", "--models", str(folder / "models"), "--control", "explicit")
    with running(folder, *arguments) as process:
        process.wait_for("Ready")
        yield process


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        yield client


@pytest.fixture
def channel(server: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


def sample(datatype: str) -> np.ndarray[Any, Any]:
    if datatype == "BYTES":
        return np.array([[b"", "größer ☃".encode()], [b"a" * 300, b"\x22\\"]], dtype=np.object_)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    dtype = tritonclient.utils.triton_to_np_dtype(datatype)
    kind = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    return np.array([[kind.min, kind.max], [0, 1]], dtype=dtype)


def tensor(datatype: str, module: Any = tritonclient.grpc) -> list[Any]:
    data = sample(datatype)
    made = module.InferInput("x", list(data.shape), datatype)
    made.set_data_from_numpy(data)
    return [made]


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_every_datatype(client: Any, datatype: str, encoding: str | None) -> None:
    result = client.infer(
        f"identity-{datatype.lower()}",
        tensor(datatype),
        outputs=[tritonclient.grpc.InferRequestedOutput("y")],
        request_id="42",
        compression_algorithm=encoding,
    )
    got = result.as_numpy("y")
    assert got.dtype == sample(datatype).dtype
    assert (got == sample(datatype)).all()
    assert result.get_response().id == "42"


async def test_asyncio(server: Running) -> None:
    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        result = await client.infer("identity-int8", tensor("INT8", tritonclient.grpc.aio))
        assert (result.as_numpy("y") == sample("INT8")).all()


def test_a_stream_answers_each_request_and_survives_errors(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for number in range(20):
        name = "nope" if number == 7 else "identity-fp32"
        client.async_stream_infer(name, tensor("FP32"), request_id=str(number))
    for number in range(20):
        result, error = answers.get(timeout=10)
        if number == 7:
            assert "no model 'nope'" in str(error)
        else:
            assert error is None
            assert result.get_response().id == str(number)
            assert (result.as_numpy("y") == sample("FP32")).all()
    client.stop_stream()


def test_metadata_config_statistics_and_repository(client: Any) -> None:
    assert "binary_tensor_data" in client.get_server_metadata().extensions
    metadata = client.get_model_metadata("identity-fp32", as_json=True)
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "-1"]}]
    config = client.get_model_config("identity-bytes").config
    assert config.max_batch_size == 32
    assert tritonclient.grpc.model_config_pb2.DataType.Name(config.input[0].data_type) == (
        "TYPE_STRING"
    )
    client.infer("identity-fp32", tensor("FP32"))
    (stats,) = client.get_inference_statistics("identity-fp32").model_stats
    assert stats.inference_count >= 2
    assert stats.inference_stats.success.ns > 0
    client.unload_model("identity-uint8")
    assert not client.is_model_ready("identity-uint8")
    index = {m.name: m for m in client.get_model_repository_index().models}
    assert index["identity-uint8"].state == "UNAVAILABLE"
    client.load_model("identity-uint8")
    assert client.is_model_ready("identity-uint8")
    with pytest.raises(InferenceServerException, match="no model 'nope'"):
        client.load_model("nope")


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model_name": "nope"}, "NOT_FOUND", "no model 'nope'"),
        ({"model_version": "9"}, "NOT_FOUND", "no version '9'"),
        ({"inputs": []}, "INVALID_ARGUMENT", "missing input: 'x'"),
        ({"outputs": [{"name": "z"}]}, "INVALID_ARGUMENT", "unknown output 'z'"),
        ({"raw_input_contents": [b"1", b"2"]}, "INVALID_ARGUMENT", "2 entries for 1 inputs"),
        ({"raw_input_contents": [b"123"]}, "INVALID_ARGUMENT", "takes 8 bytes, got 3"),
    ],
)
def test_errors(channel: grpc.Channel, change: dict[str, Any], status: str, words: str) -> None:
    request = {
        "model_name": "identity-fp32",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}],
        "raw_input_contents": [b"12345678"],
        **change,
    }
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    if not request["inputs"]:
        request["raw_input_contents"] = []
    with pytest.raises(grpc.RpcError) as caught:
        call(pb.ModelInferRequest(**request), timeout=5)
    assert caught.value.code().name == status
    assert words in caught.value.details()
    assert dict(caught.value.trailing_metadata())["code"]


@pytest.mark.parametrize(
    ("datatype", "contents", "words"),
    [
        ("FP32", {"fp32_contents": [1.0]}, "holds 2 values, fp32_contents has 1"),
        ("FP32", {"fp64_contents": [1.0, 2.0]}, "FP32 belongs in fp32_contents"),
        ("INT8", {"int_contents": [1, 300]}, "outside INT8"),
        ("FP16", {"fp32_contents": [1.0, 2.0]}, "raw_input_contents only"),
    ],
)
def test_typed_contents_are_checked(
    channel: grpc.Channel, datatype: str, contents: dict[str, Any], words: str
) -> None:
    tensor = {"name": "x", "datatype": datatype, "shape": [1, 2], "contents": contents}
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    name = f"identity-{datatype.lower()}"
    with pytest.raises(grpc.RpcError) as caught:
        call(pb.ModelInferRequest(model_name=name, inputs=[tensor]), timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()
    good = {"int_contents": [1, -2]}
    tensor = {"name": "x", "datatype": "INT8", "shape": [1, 2], "contents": good}
    answer, told = call.with_call(
        pb.ModelInferRequest(model_name="identity-int8", inputs=[tensor]),
        timeout=5,
        metadata=(("x-request-id", "mine"),),
    )
    assert answer.raw_output_contents == [b"\x01\xfe"]
    assert dict(told.initial_metadata())["x-request-id"] == "mine"


def test_health_and_reflection(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "inference.GRPCInferenceService", "identity-fp32"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=5)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(services)


def test_what_is_not_spoken_says_so(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.get_system_shared_memory_status()
    assert "UNIMPLEMENTED" in caught.value.status()


def test_a_time_out_of_the_caller_ends_the_request(client: Any) -> None:
    with pytest.raises(InferenceServerException) as late:
        client.infer("identity-fp32", tensor("FP32"), timeout=1)  # a microsecond
    assert "DEADLINE_EXCEEDED" in late.value.status()


async def test_a_drain_fails_no_request(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("drain")
    model = models.identity_onnx(folder / "m.onnx", "FP32", ["batch", "n"])
    with running(folder, "serve", str(model), "--name", "m", drain_timeout_s="3") as process:
        process.wait_for("Ready")
        async with tritonclient.grpc.aio.InferenceServerClient(process.grpc) as client:
            ended = asyncio.Event()

            async def ask() -> int:
                answers = 0
                while not ended.is_set():
                    result = await client.infer("m", tensor("FP32", tritonclient.grpc.aio))
                    assert (result.as_numpy("y") == sample("FP32")).all()
                    answers += 1
                return answers

            asking = [asyncio.create_task(ask()) for _ in range(4)]
            await client.infer("m", tensor("FP32", tritonclient.grpc.aio))
            process.terminate()
            while await client.is_server_ready():  # noqa: ASYNC110 - it is another process's state
                await asyncio.sleep(0.01)
            ended.set()
            assert all(count > 0 for count in await asyncio.gather(*asking))
        assert await asyncio.to_thread(process.process.wait, 10) == 0


def test_every_error_has_a_status() -> None:
    assert set(STATUS) == set(HTTP_STATUS)
