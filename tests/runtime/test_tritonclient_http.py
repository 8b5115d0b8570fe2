"""The client that everybody has, unmodified, against a real process over real sockets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import httpx
import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from testkit.runtime_serving import running
from testkit.triton_client import DATATYPES, NAMES, same, sample, write_models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from testkit.runtime_serving import Running

pytestmark = pytest.mark.slow

ENCODINGS: Final = (None, "gzip", "deflate")
WAYS: Final = [
    pytest.param((binary_in, binary_out, encoding), id=f"{binary_in}-{binary_out}-{encoding}")
    for binary_in in (True, False)
    for binary_out in (True, False)
    for encoding in ENCODINGS
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("triton")
    models = write_models(folder / "models")
    arguments = ("serve", "--models", str(models), "--control", "explicit")
    with running(folder, *arguments, allow_pickle="true") as process:
        process.wait_for("Ready")
        yield process


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    with tritonclient.http.InferenceServerClient(server.http.removeprefix("http://")) as client:
        yield client


class Whole(aiohttp.ClientResponse):
    """An answer that is read at once: the client looks only at the status of some, and keeps
    their connections for ever if the body is not there yet.
    """

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        await super().start(connection)
        await self.read()
        return self


@pytest.fixture
async def aio(server: Running) -> AsyncIterator[Any]:
    address = server.http.removeprefix("http://")
    async with tritonclient.http.aio.InferenceServerClient(address) as client:
        client._stub._response_class = Whole
        yield client


def tensor(datatype: str, *, binary: bool = True, data: Any = None) -> list[Any]:
    data = sample(datatype) if data is None else data
    made = tritonclient.http.InferInput("x", list(data.shape), datatype)
    made.set_data_from_numpy(data, binary_data=binary)
    return [made]


def asked(datatype: str, *way: Any) -> dict[str, Any]:
    """Return the arguments of a call that is sent and answered in one of the ways."""
    binary_in, binary_out, encoding = way
    return {
        "model_name": f"identity-{datatype.lower()}",
        # The client refuses to write BF16 as JSON; it reads it.
        "inputs": tensor(datatype, binary=binary_in or datatype == "BF16"),
        "outputs": [tritonclient.http.InferRequestedOutput("y", binary_data=binary_out)],
        "request_id": "42",
        "request_compression_algorithm": encoding,
        "response_compression_algorithm": encoding,
    }


# --- every datatype, every way ---------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_every_way(client: Any, datatype: str, way: Any) -> None:
    result = client.infer(**asked(datatype, *way))
    same(result.as_numpy("y"), sample(datatype))
    assert result.get_response()["id"] == "42"
    (output,) = result.get_response()["outputs"]
    assert ("data" in output) is not way[1]


@pytest.mark.parametrize("way", WAYS)
async def test_every_datatype_every_way_with_asyncio(aio: Any, way: Any) -> None:
    for datatype in DATATYPES:
        result = await aio.infer(**asked(datatype, *way))
        same(result.as_numpy("y"), sample(datatype))


def test_calls_that_do_not_wait(client: Any) -> None:
    calls = [client.async_infer(**asked("FP32", True, True, None)) for _ in range(5)]
    for call in calls:
        same(call.get_result().as_numpy("y"), sample("FP32"))


def test_outputs_that_nobody_names_are_binary_as_the_client_asks(client: Any) -> None:
    result = client.infer("identity-fp32", tensor("FP32"))
    same(result.as_numpy("y"), sample("FP32"))
    (output,) = result.get_response()["outputs"]
    assert output["parameters"]["binary_data_size"] == sample("FP32").nbytes


def test_a_body_of_one_s_own(server: Running) -> None:
    kind = tritonclient.http.InferenceServerClient
    body, length = kind.generate_request_body(tensor("INT16"))
    answer = httpx.post(
        f"{server.http}/v2/models/identity-int16/infer",
        content=body,
        headers={"Inference-Header-Content-Length": str(length)},
    )
    length = int(answer.headers["inference-header-content-length"])
    result = kind.parse_response_body(answer.content, header_length=length)
    same(result.as_numpy("y"), sample("INT16"))


def test_a_raw_body_is_the_only_input(server: Running) -> None:
    data = np.arange(6, dtype=np.float32).reshape(1, 6)
    answer = httpx.post(
        f"{server.http}/v2/models/identity-fp32/infer",
        content=data.tobytes(),
        headers={"Inference-Header-Content-Length": "0"},
    )
    assert answer.status_code == 200
    length = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.content[length:] == data.tobytes()


def test_bf16_as_json(server: Running) -> None:
    document = {"inputs": [{"name": "x", "datatype": "BF16", "shape": [1, 2], "data": [1.5, -2]}]}
    answer = httpx.post(f"{server.http}/v2/models/identity-bf16/infer", json=document).json()
    assert answer["outputs"][0]["data"] == [1.5, -2.0]


def test_shapes_of_nothing(client: Any) -> None:
    for shape in ((1, 0), (3, 0)):
        result = client.infer("identity-fp32", tensor("FP32", data=np.empty(shape, np.float32)))
        assert result.as_numpy("y").shape == shape
    with pytest.raises(InferenceServerException, match="input 'x' has no rows"):
        client.infer("identity-fp32", tensor("FP32", data=np.empty((0, 2), np.float32)))


def test_classification(client: Any) -> None:
    data = np.array([[0.25, 4.0, -1.0], [9.0, 0.0, 1.5]], np.float32)
    for binary in (True, False):
        wanted = tritonclient.http.InferRequestedOutput("y", binary_data=binary, class_count=2)
        inputs = tensor("FP32", data=data)
        got = client.infer("identity-fp32", inputs, outputs=[wanted]).as_numpy("y")
        words = [[v.decode() if isinstance(v, bytes) else v for v in row] for row in got]
        assert words == [["4.000000:1", "0.250000:0"], ["9.000000:0", "1.500000:2"]]


def test_parameters_and_id_reach_the_handler(client: Any) -> None:
    parameters = {"text": "ü", "number": 7, "flag": True}
    result = client.infer(
        "told",
        tensor("BYTES", data=np.array([["x"]], np.object_)),
        request_id="mine",
        parameters=parameters,
        priority=3,
    )
    told = json.loads(result.as_numpy("y")[0, 0])
    assert told.items() >= {**parameters, "id": "mine", "priority": 3}.items()


def test_deadlines_of_the_caller(client: Any) -> None:
    assert client.infer("identity-fp32", tensor("FP32"), timeout=5_000_000, priority=1)
    with pytest.raises(InferenceServerException) as late:
        client.infer("identity-fp32", tensor("FP32"), timeout=1)
    assert late.value.status() == "504"


# --- errors ----------------------------------------------------------------------------------

WRONG: Final[dict[str, tuple[Callable[[Any], Any], str, str]]] = {
    "unknown model": (lambda c: c.infer("nope", tensor("FP32")), "404", "no model 'nope'"),
    "unknown version": (
        lambda c: c.infer("two", tensor("FP32"), model_version="9"),
        "404",
        "no version '9'",
    ),
    "datatype": (
        lambda c: c.infer("identity-int8", tensor("FP32")),
        "400",
        "expected datatype INT8, got FP32",
    ),
    "missing input": (lambda c: c.infer("two", []), "400", "missing input: 'a', 'b'"),
    "unknown output": (
        lambda c: c.infer(
            "identity-fp32", tensor("FP32"), outputs=[tritonclient.http.InferRequestedOutput("z")]
        ),
        "400",
        "unknown output 'z'",
    ),
    "unknown metadata": (lambda c: c.get_model_metadata("nope"), "404", "no model 'nope'"),
    "unknown config": (lambda c: c.get_model_config("nope"), "404", "no model 'nope'"),
    "unknown statistics": (lambda c: c.get_inference_statistics("nope"), "404", "no model 'nope'"),
    "load of nothing": (lambda c: c.load_model("nope"), "404", "no model 'nope'"),
    "load with a config": (lambda c: c.load_model("two", config="{}"), "400", r"model\.yaml"),
    "unload of nothing": (lambda c: c.unload_model("nope"), "404", "'nope' is not loaded"),
    "shared memory": (
        lambda c: c.register_system_shared_memory("r", "/r", 8),
        "404",
        "there is no '/v2/systemsharedmemory/region/r/register'",
    ),
    "shared memory's state": (
        lambda c: c.get_cuda_shared_memory_status(),
        "404",
        "there is no '/v2/cudasharedmemory/status'",
    ),
    "tracing": (lambda c: c.get_trace_settings(), "404", "there is no '/v2/trace/setting'"),
    "logging": (lambda c: c.get_log_settings(), "404", "there is no '/v2/logging'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_decoded(client: Any, case: str) -> None:
    call, status, words = WRONG[case]
    with pytest.raises(InferenceServerException, match=words) as caught:
        call(client)
    assert caught.value.status() == status


def test_a_tensor_in_shared_memory_is_refused(client: Any) -> None:
    (lying,) = tensor("FP32")
    lying.set_shared_memory("region", 16)
    with pytest.raises(
        InferenceServerException, match="shared memory is not spoken here"
    ) as caught:
        client.infer("identity-fp32", [lying])
    assert caught.value.status() == "415"


async def test_errors_are_decoded_with_asyncio(aio: Any) -> None:
    with pytest.raises(InferenceServerException, match="expected datatype INT8, got FP32"):
        await aio.infer("identity-int8", tensor("FP32"))
    with pytest.raises(InferenceServerException, match="no model 'nope'"):
        await aio.get_model_metadata("nope")


# --- documents -------------------------------------------------------------------------------


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("two", "3")
    assert not client.is_model_ready("two", "4")
    assert {"binary_tensor_data", "statistics"} <= set(client.get_server_metadata()["extensions"])
    metadata = client.get_model_metadata("two")
    assert metadata["versions"] == ["3"]
    assert metadata["inputs"][1] == {"name": "b", "datatype": "FP32", "shape": [-1, 2]}
    config = client.get_model_config("identity-fp32")
    assert (config["name"], config["max_batch_size"]) == ("identity-fp32", 32)
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}]
    assert config["dynamic_batching"] == {"max_queue_delay_microseconds": 0}
    assert client.get_model_config("parts")["model_transaction_policy"] == {"decoupled": True}


def test_statistics_count_rows_executions_and_failures(client: Any) -> None:
    def counted() -> dict[str, Any]:
        (one,) = client.get_inference_statistics("identity-uint64", "1")["model_stats"]
        return dict(one)

    before = counted()
    for _ in range(3):
        client.infer("identity-uint64", tensor("UINT64"))
    with pytest.raises(InferenceServerException):
        client.infer("identity-uint64", tensor("FP32"))
    after = counted()
    assert after["inference_count"] - before["inference_count"] == 6  # rows
    assert after["execution_count"] - before["execution_count"] == 3
    assert after["last_inference"] >= before["last_inference"]
    spent = {}
    for stage in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"):
        new, old = after["inference_stats"][stage], before["inference_stats"][stage]
        assert new["count"] - old["count"] == (1 if stage == "fail" else 3), stage
        spent[stage] = new["ns"] - old["ns"]
        assert spent[stage] > 0, stage
    assert spent["success"] >= sum(
        spent[stage] for stage in ("queue", "compute_input", "compute_infer", "compute_output")
    ), "the stages are parts of the whole"
    sizes = {row["batch_size"]: row["compute_infer"]["count"] for row in after["batch_stats"]}
    assert sizes[2] >= 3
    listed = {one["name"] for one in client.get_inference_statistics()["model_stats"]}
    assert listed == NAMES


def test_load_unload_and_index(client: Any, server: Running) -> None:
    client.unload_model("two")
    assert not client.is_model_ready("two")
    with pytest.raises(InferenceServerException, match="unavailable") as caught:
        client.infer("two", [])
    assert caught.value.status() == "503"
    states = {row["name"]: row for row in client.get_model_repository_index()}
    assert (states["two"]["state"], states["two"]["reason"]) == ("UNAVAILABLE", "unloaded")
    assert client.is_server_ready(), "what was unloaded on purpose is not missing"
    client.load_model("two")
    assert client.is_model_ready("two", "3")
    assert server.status()["state"] == "Ready"


async def test_documents_with_asyncio(aio: Any) -> None:
    assert await aio.is_server_live()
    assert await aio.is_server_ready()
    assert (await aio.get_model_metadata("two"))["versions"] == ["3"]
    assert (await aio.get_model_config("two"))["max_batch_size"] == 32
    (one,) = (await aio.get_inference_statistics("two"))["model_stats"]
    assert one["version"] == "3"
    await aio.unload_model("identity-bool")
    states = {row["name"]: row["state"] for row in await aio.get_model_repository_index()}
    assert states["identity-bool"] == "UNAVAILABLE"
    await aio.load_model("identity-bool")
    assert await aio.is_model_ready("identity-bool")
