"""The gRPC client that everybody has, unmodified, against a real process over real sockets."""

from __future__ import annotations

import asyncio
import json
import queue
from typing import TYPE_CHECKING, Any, Final

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

from testkit import runtime_models as models
from testkit.runtime_serving import running
from testkit.triton_client import DATATYPES, NAMES, same, sample, write_models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from testkit.runtime_serving import Running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("grpc")
    models = write_models(folder / "models")
    arguments = ("serve", "--models", str(models), "--control", "explicit")
    with running(folder, *arguments, allow_pickle="true") as process:
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


@pytest.fixture
async def aio(server: Running) -> AsyncIterator[Any]:
    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client:
        yield client


def tensor(datatype: str, data: Any = None) -> list[Any]:
    data = sample(datatype) if data is None else data
    made = tritonclient.grpc.InferInput("x", list(data.shape), datatype)
    made.set_data_from_numpy(data)
    return [made]


def asked(datatype: str, encoding: str | None) -> dict[str, Any]:
    return {
        "model_name": f"identity-{datatype.lower()}",
        "inputs": tensor(datatype),
        "outputs": [tritonclient.grpc.InferRequestedOutput("y")],
        "request_id": "42",
        "compression_algorithm": encoding,
    }


# --- every datatype, every way ---------------------------------------------------------------


@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype(client: Any, datatype: str, encoding: str | None) -> None:
    result = client.infer(**asked(datatype, encoding))
    same(result.as_numpy("y"), sample(datatype))
    assert result.get_response().id == "42"


@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
async def test_every_datatype_with_asyncio(aio: Any, encoding: str | None) -> None:
    for datatype in DATATYPES:
        result = await aio.infer(**asked(datatype, encoding))
        same(result.as_numpy("y"), sample(datatype))


def test_calls_that_do_not_wait(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for _ in range(5):
        client.async_infer(
            "identity-fp32",
            tensor("FP32"),
            callback=lambda result, error: answers.put((result, error)),
        )
    for _ in range(5):
        result, error = answers.get(timeout=30)
        assert error is None
        same(result.as_numpy("y"), sample("FP32"))


def test_shapes_of_nothing(client: Any) -> None:
    for shape in ((1, 0), (3, 0)):
        result = client.infer("identity-fp32", tensor("FP32", np.empty(shape, np.float32)))
        assert result.as_numpy("y").shape == shape
    with pytest.raises(InferenceServerException, match="input 'x' has no rows"):
        client.infer("identity-fp32", tensor("FP32", np.empty((0, 2), np.float32)))


def test_classification(client: Any) -> None:
    data = np.array([[0.25, 4.0, -1.0], [9.0, 0.0, 1.5]], np.float32)
    wanted = tritonclient.grpc.InferRequestedOutput("y", class_count=2)
    result = client.infer("identity-fp32", tensor("FP32", data), outputs=[wanted])
    assert result.as_numpy("y").tolist() == [
        [b"4.000000:1", b"0.250000:0"],
        [b"9.000000:0", b"1.500000:2"],
    ]


def test_parameters_and_id_reach_the_handler(client: Any) -> None:
    parameters = {"text": "ü", "number": 7, "flag": True}
    result = client.infer(
        "told",
        tensor("BYTES", np.array([["x"]], np.object_)),
        request_id="mine",
        parameters=parameters,
        priority=3,
    )
    told = json.loads(result.as_numpy("y")[0, 0])
    assert told.items() >= {**parameters, "id": "mine", "priority": 3}.items()


# --- streams ---------------------------------------------------------------------------------


def test_a_stream_answers_each_request_in_turn_and_survives_errors(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for number in range(20):
        name = "nope" if number == 7 else "identity-fp32"
        client.async_stream_infer(name, tensor("FP32"), request_id=str(number))
    for number in range(20):
        result, error = answers.get(timeout=30)
        if number == 7:
            assert "no model 'nope'" in str(error)
        else:
            assert error is None
            answer = result.get_response()
            assert answer.id == str(number)
            assert answer.parameters["triton_final_response"].bool_param
            same(result.as_numpy("y"), sample("FP32"))
    client.stop_stream()


def parts_of(answers: queue.Queue[tuple[Any, Any]], count: int) -> dict[str, list[Any]]:
    """Gather answers by the request's id, until so many requests have ended."""
    found: dict[str, list[Any]] = {}
    ended = 0
    while ended < count:
        result, error = answers.get(timeout=30)
        if error is not None:
            found.setdefault("error", []).append(str(error))
            continue
        answer = result.get_response()
        parts = found.setdefault(answer.id, [])
        if answer.parameters["triton_final_response"].bool_param:
            assert not answer.outputs
            ended += 1
        else:
            parts.append(int(result.as_numpy("y")[0, 0]))
    return found


def test_a_model_may_answer_any_number_of_times(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    wanted = {"none": [], "one": [5], "many": list(range(200))}
    for name, numbers in wanted.items():
        client.async_stream_infer(
            "parts",
            tensor("INT32", np.array([numbers], np.int32)),
            request_id=name,
            enable_empty_final_response=True,
        )
    assert parts_of(answers, len(wanted)) == wanted
    client.stop_stream()


def test_an_error_between_parts_ends_its_request_alone(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for name, numbers in {"bad": [1, -1, 3], "good": [7, 8]}.items():
        client.async_stream_infer(
            "parts",
            tensor("INT32", np.array([numbers], np.int32)),
            request_id=name,
            enable_empty_final_response=True,
        )
    found = parts_of(answers, 2)
    assert (found["bad"], found["good"]) == ([1], [7, 8])
    (error,) = found["error"]
    assert "the handler's stream failed" in error
    assert "secret" not in error
    client.stop_stream()


async def test_a_stream_with_asyncio(aio: Any) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for numbers in ([1, 2], [3]):
            yield {
                "model_name": "parts",
                "inputs": tensor("INT32", np.array([numbers], np.int32)),
                "request_id": str(len(numbers)),
            }

    found: dict[str, list[int]] = {}
    async for result, error in aio.stream_infer(requests()):
        assert error is None
        parts = found.setdefault(result.get_response().id, [])
        parts.append(int(result.as_numpy("y")[0, 0]))
    assert found == {"2": [1, 2], "1": [3]}


# --- documents -------------------------------------------------------------------------------


def test_metadata_config_statistics_and_repository(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata().extensions
    metadata = client.get_model_metadata("identity-fp32", as_json=True)
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "-1"]}]
    config = client.get_model_config("identity-bytes").config
    assert config.max_batch_size == 32
    assert tritonclient.grpc.model_config_pb2.DataType.Name(config.input[0].data_type) == (
        "TYPE_STRING"
    )
    assert client.get_model_config("parts").config.model_transaction_policy.decoupled
    (before,) = client.get_inference_statistics("identity-fp32").model_stats
    client.infer("identity-fp32", tensor("FP32"))
    (stats,) = client.get_inference_statistics("identity-fp32").model_stats
    assert stats.inference_count == before.inference_count + 2  # rows
    assert stats.execution_count == before.execution_count + 1
    assert stats.inference_stats.success.ns > stats.inference_stats.compute_infer.ns > 0
    assert {row.name for row in client.get_inference_statistics().model_stats} == NAMES
    client.unload_model("identity-uint8")
    assert not client.is_model_ready("identity-uint8")
    index = {m.name: m for m in client.get_model_repository_index().models}
    assert index["identity-uint8"].state == "UNAVAILABLE"
    client.load_model("identity-uint8")
    assert client.is_model_ready("identity-uint8")


async def test_documents_with_asyncio(aio: Any) -> None:
    assert await aio.is_server_live()
    assert await aio.is_server_ready()
    assert await aio.is_model_ready("two", "3")
    assert list((await aio.get_model_metadata("two")).versions) == ["3"]
    assert (await aio.get_model_config("two")).config.max_batch_size == 32
    (one,) = (await aio.get_inference_statistics("two")).model_stats
    assert one.version == "3"
    await aio.unload_model("identity-bool")
    index = await aio.get_model_repository_index()
    assert {m.name: m.state for m in index.models}["identity-bool"] == "UNAVAILABLE"
    await aio.load_model("identity-bool")


# --- errors ----------------------------------------------------------------------------------

WRONG: Final[dict[str, tuple[Callable[[Any], Any], str, str]]] = {
    "unknown model": (lambda c: c.infer("nope", tensor("FP32")), "NOT_FOUND", "no model 'nope'"),
    "datatype": (
        lambda c: c.infer("identity-int8", tensor("FP32")),
        "INVALID_ARGUMENT",
        "expected datatype INT8, got FP32",
    ),
    "unknown metadata": (lambda c: c.get_model_metadata("nope"), "NOT_FOUND", "no model 'nope'"),
    "unknown config": (lambda c: c.get_model_config("nope"), "NOT_FOUND", "no model 'nope'"),
    "unknown statistics": (
        lambda c: c.get_inference_statistics("nope"),
        "NOT_FOUND",
        "no model 'nope'",
    ),
    "load of nothing": (lambda c: c.load_model("nope"), "NOT_FOUND", "no model 'nope'"),
    "unload of nothing": (lambda c: c.unload_model("nope"), "NOT_FOUND", "'nope' is not loaded"),
    "a microsecond": (
        lambda c: c.infer("identity-fp32", tensor("FP32"), timeout=1),
        "DEADLINE_EXCEEDED",
        "deadline",
    ),
    "a time-out of the client": (
        lambda c: c.infer(
            "told",
            tensor("BYTES", np.array([["x"]], np.object_)),
            parameters={"seconds": 60},
            client_timeout=0.2,
        ),
        "DEADLINE_EXCEEDED",
        "(?i)deadline",
    ),
    "shared memory": (
        lambda c: c.register_system_shared_memory("r", "/r", 8),
        "UNIMPLEMENTED",
        "Method not found",
    ),
    "shared memory's state": (
        lambda c: c.get_cuda_shared_memory_status(),
        "UNIMPLEMENTED",
        "Method not found",
    ),
    "tracing": (lambda c: c.get_trace_settings(), "UNIMPLEMENTED", "Method not found"),
    "logging": (lambda c: c.get_log_settings(), "UNIMPLEMENTED", "Method not found"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_decoded(client: Any, case: str) -> None:
    call, status, words = WRONG[case]
    with pytest.raises(InferenceServerException, match=words) as caught:
        call(client)
    assert caught.value.status() == f"StatusCode.{status}"


def test_a_tensor_in_shared_memory_is_refused(client: Any) -> None:
    (lying,) = tensor("FP32")
    lying.set_shared_memory("region", 16)
    with pytest.raises(
        InferenceServerException, match="shared memory is not spoken here"
    ) as caught:
        client.infer("identity-fp32", [lying])
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_health_and_reflection(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "inference.GRPCInferenceService", "identity-fp32"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(services)


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
                    result = await client.infer("m", tensor("FP32"))
                    same(result.as_numpy("y"), sample("FP32"))
                    answers += 1
                return answers

            asking = [asyncio.create_task(ask()) for _ in range(4)]
            await client.infer("m", tensor("FP32"))
            process.terminate()
            while await client.is_server_ready():  # noqa: ASYNC110 - it is another process's state
                await asyncio.sleep(0.01)
            ended.set()
            assert all(count > 0 for count in await asyncio.gather(*asking))
        assert await asyncio.to_thread(process.process.wait, 10) == 0
