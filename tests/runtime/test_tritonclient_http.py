"""The client that everybody has, unmodified, against a real process over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from testkit import runtime_models as models
from testkit.runtime_serving import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testkit.runtime_serving import Running

pytestmark = pytest.mark.slow

DATATYPES = sorted(models.ONNX_TYPES)
ENCODINGS = [None, "gzip", "deflate"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("triton")
    for datatype in DATATYPES:
        place = folder / "models" / f"identity-{datatype.lower()}" / "1"
        place.mkdir(parents=True)
        models.identity_onnx(place / "model.onnx", datatype, ["batch", "n"])
    place = folder / "models" / "two" / "3"
    place.mkdir(parents=True)
    models.two_inputs_onnx(place / "model.onnx")
    arguments = ("serve", "--models", str(folder / "models"), "--control", "explicit")
    with running(folder, *arguments) as process:
        process.wait_for("Ready")
        yield process


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    with tritonclient.http.InferenceServerClient(server.http.removeprefix("http://")) as client:
        yield client


def sample(datatype: str) -> np.ndarray[Any, Any]:
    if datatype == "BYTES":
        return np.array([["", "größer ☃"], ["a" * 300, '"\\']], dtype=np.object_)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    dtype = tritonclient.utils.triton_to_np_dtype(datatype)
    kind = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    return np.array([[kind.min, kind.max], [0, 1]], dtype=dtype)


def same(got: np.ndarray[Any, Any], sent: np.ndarray[Any, Any]) -> None:
    if sent.dtype.kind == "O":
        got = np.vectorize(lambda v: v.decode() if isinstance(v, bytes) else v, otypes="O")(got)
    assert got.shape == sent.shape
    assert (got == sent).all()


def tensors(
    module: Any, datatype: str, *, binary_in: bool, binary_out: bool
) -> tuple[list[Any], list[Any]]:
    data = sample(datatype)
    tensor = module.InferInput("x", list(data.shape), datatype)
    tensor.set_data_from_numpy(data, binary_data=binary_in)
    return [tensor], [module.InferRequestedOutput("y", binary_data=binary_out)]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
def test_every_datatype_every_way(
    client: Any, *, binary_in: bool, binary_out: bool, encoding: str | None
) -> None:
    for datatype in DATATYPES:
        if datatype == "FP16" and not binary_in:
            continue  # the client refuses to write FP16 as JSON
        inputs, outputs = tensors(
            tritonclient.http, datatype, binary_in=binary_in, binary_out=binary_out
        )
        result = client.infer(
            f"identity-{datatype.lower()}",
            inputs,
            outputs=outputs,
            request_id="42",
            request_compression_algorithm=encoding,
            response_compression_algorithm=encoding,
        )
        same(result.as_numpy("y"), sample(datatype))
        assert result.get_response()["id"] == "42"


async def test_asyncio(server: Running) -> None:
    address = server.http.removeprefix("http://")
    async with tritonclient.http.aio.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        for encoding in ENCODINGS:
            inputs, outputs = tensors(
                tritonclient.http.aio, "FP32", binary_in=True, binary_out=True
            )
            result = await client.infer(
                "identity-fp32",
                inputs,
                outputs=outputs,
                request_compression_algorithm=encoding,
                response_compression_algorithm=encoding,
            )
            same(result.as_numpy("y"), sample("FP32"))
        wrong = tritonclient.http.aio.InferInput("z", [1, 1], "FP32")
        wrong.set_data_from_numpy(np.ones((1, 1), np.float32))
        with pytest.raises(InferenceServerException, match="unknown input"):
            await client.infer("identity-fp32", [wrong])


def test_outputs_that_nobody_names_are_binary_as_the_client_asks(client: Any) -> None:
    inputs, _ = tensors(tritonclient.http, "FP32", binary_in=True, binary_out=True)
    result = client.infer("identity-fp32", inputs)
    same(result.as_numpy("y"), sample("FP32"))
    (output,) = result.get_response()["outputs"]
    assert output["parameters"]["binary_data_size"] == sample("FP32").nbytes


def test_classification(client: Any) -> None:
    data = np.array([[0.25, 4.0, -1.0], [9.0, 0.0, 1.5]], np.float32)
    tensor = tritonclient.http.InferInput("x", [2, 3], "FP32")
    tensor.set_data_from_numpy(data)
    for binary in (True, False):
        wanted = tritonclient.http.InferRequestedOutput("y", binary_data=binary, class_count=2)
        got = client.infer("identity-fp32", [tensor], outputs=[wanted]).as_numpy("y")
        words = [[v.decode() if isinstance(v, bytes) else v for v in row] for row in got]
        assert words == [["4.000000:1", "0.250000:0"], ["9.000000:0", "1.500000:2"]]


def test_a_raw_body_is_the_only_input(server: Running, client: Any) -> None:
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
    assert client.is_model_ready("two", "3")


def test_deadlines_of_the_caller(client: Any) -> None:
    inputs, outputs = tensors(tritonclient.http, "FP32", binary_in=True, binary_out=True)
    assert client.infer("identity-fp32", inputs, outputs=outputs, timeout=5_000_000)
    with pytest.raises(InferenceServerException) as late:
        client.infer("identity-fp32", inputs, outputs=outputs, timeout=1)
    assert "deadline" in str(late.value)


def test_errors_are_decoded(client: Any) -> None:
    inputs, outputs = tensors(tritonclient.http, "FP32", binary_in=True, binary_out=True)
    with pytest.raises(InferenceServerException, match="there is no model 'nope'"):
        client.infer("nope", inputs)
    with pytest.raises(InferenceServerException, match="expected datatype INT8, got FP32"):
        client.infer("identity-int8", inputs, outputs=outputs)
    with pytest.raises(InferenceServerException, match="unknown output 'z'"):
        client.infer("identity-fp32", inputs, outputs=[tritonclient.http.InferRequestedOutput("z")])


def test_repository_config_and_statistics(client: Any, server: Running) -> None:
    name = "identity-fp32"
    config = client.get_model_config(name)
    assert (config["name"], config["max_batch_size"]) == (name, 32)
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}]
    assert client.get_model_metadata("two")["versions"] == ["3"]
    before = client.get_inference_statistics(name, "1")["model_stats"][0]
    inputs, outputs = tensors(tritonclient.http, "FP32", binary_in=True, binary_out=True)
    client.infer(name, inputs, outputs=outputs)
    after = client.get_inference_statistics(name)["model_stats"][0]
    assert after["inference_count"] == before["inference_count"] + 2  # rows
    assert after["execution_count"] == before["execution_count"] + 1
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    listed = {s["name"] for s in client.get_inference_statistics()["model_stats"]}
    assert listed == {f"identity-{d.lower()}" for d in DATATYPES} | {"two"}

    client.unload_model("two")
    assert not client.is_model_ready("two")
    states = {row["name"]: row for row in client.get_model_repository_index()}
    assert states["two"]["state"] == "UNAVAILABLE"
    assert states["two"]["reason"] == "unloaded"
    assert client.is_server_ready(), "what was unloaded on purpose is not missing"
    client.load_model("two")
    assert client.is_model_ready("two", "3")
    with pytest.raises(InferenceServerException, match="no model 'nope'"):
        client.load_model("nope")
    with pytest.raises(InferenceServerException, match=r"model\.yaml"):
        client.load_model("two", config="{}")
    assert server.status()["state"] == "Ready"
