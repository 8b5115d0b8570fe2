"""The gRPC API: its messages and statuses, and tensors in fields of their type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio
import tritonclient.grpc

from modelyard_runtime.api.problems import STATUS as HTTP_STATUS
from modelyard_runtime.grpc_api import inference_pb2 as pb
from modelyard_runtime.grpc_api.statuses import STATUS
from modelyard_runtime.service import Service
from modelyard_runtime.settings import RuntimeSettings
from testkit import runtime_models as models
from testkit.runtime_serving import grpc_channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

in_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def channel(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[grpc.aio.Channel]:
    folder = tmp_path_factory.mktemp("models")
    for datatype in ("FP32", "INT8", "FP16"):
        place = folder / f"identity-{datatype.lower()}" / "1"
        place.mkdir(parents=True)
        models.identity_onnx(place / "model.onnx", datatype, ["batch", "n"])
    service = Service(RuntimeSettings(model_repository=folder, threads=1))
    await service.start()
    async with grpc_channel(service) as channel:
        yield channel
    service.close()


def infer(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )


@in_one_loop
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
async def test_errors(
    channel: grpc.aio.Channel, change: dict[str, Any], status: str, words: str
) -> None:
    request = {
        "model_name": "identity-fp32",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}],
        "raw_input_contents": [b"12345678"],
        **change,
    }
    if not request["inputs"]:
        request["raw_input_contents"] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer(channel)(pb.ModelInferRequest(**request), timeout=30)
    assert caught.value.code().name == status
    assert words in (caught.value.details() or "")
    assert dict(caught.value.trailing_metadata())["code"]


@in_one_loop
@pytest.mark.parametrize(
    ("datatype", "contents", "words"),
    [
        ("FP32", {"fp32_contents": [1.0]}, "holds 2 values, fp32_contents has 1"),
        ("FP32", {"fp64_contents": [1.0, 2.0]}, "FP32 belongs in fp32_contents"),
        ("INT8", {"int_contents": [1, 300]}, "outside INT8"),
        ("FP16", {"fp32_contents": [1.0, 2.0]}, "raw_input_contents only"),
    ],
)
async def test_typed_contents_are_checked(
    channel: grpc.aio.Channel, datatype: str, contents: dict[str, Any], words: str
) -> None:
    tensor = {"name": "x", "datatype": datatype, "shape": [1, 2], "contents": contents}
    name = f"identity-{datatype.lower()}"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer(channel)(pb.ModelInferRequest(model_name=name, inputs=[tensor]), timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in (caught.value.details() or "")


@in_one_loop
async def test_typed_contents_are_taken_and_an_id_is_given_back(channel: grpc.aio.Channel) -> None:
    good = {"int_contents": [1, -2]}
    tensor = {"name": "x", "datatype": "INT8", "shape": [1, 2], "contents": good}
    asked = infer(channel)(
        pb.ModelInferRequest(model_name="identity-int8", inputs=[tensor]),
        timeout=30,
        metadata=(("x-request-id", "mine"),),
    )
    assert (await asked).raw_output_contents == [b"\x01\xfe"]
    assert dict(await asked.initial_metadata())["x-request-id"] == "mine"


def test_every_error_has_a_status() -> None:
    assert set(STATUS) == set(HTTP_STATUS)


def test_every_message_is_the_one_that_the_client_knows() -> None:
    """Every field of ours has the number and the type that it has in Triton's files."""
    theirs = tritonclient.grpc.service_pb2.DESCRIPTOR.pool
    for name, ours in pb.DESCRIPTOR.message_types_by_name.items():
        known = theirs.FindMessageTypeByName(f"inference.{name}")
        for field in ours.fields:
            like = known.fields_by_name[field.name]
            assert (field.number, field.type) == (like.number, like.type), f"{name}.{field.name}"
