"""What is wrong with a message is the caller's error, in words; the server goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
import pytest

from modelyard_runtime.grpc_api import inference_pb2 as pb
from testkit import runtime_models as models
from testkit.runtime_serving import grpc_channel, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from modelyard_runtime.service import Service

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
STREAM: Final = "/inference.GRPCInferenceService/ModelStreamInfer"
CALLERS: Final = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"})
SEED: Final = 7
LIMIT: Final = 4096


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[grpc.aio.Channel, Service]]:
    model = models.two_inputs_onnx(tmp_path / "model.onnx")
    directives = tmp_path / "directives.json"
    directives.write_text(json.dumps({"maxBodyBytes": LIMIT}))
    async with (
        serving(model, directives_file=directives) as (_, service),
        grpc_channel(service) as channel,
    ):
        yield channel, service


def good() -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="m", id="1")
    for name in ("a", "b"):
        tensor = message.inputs.add(name=name, datatype="FP32", shape=[2, 2])
        tensor.contents.fp32_contents.extend([1, 2, 3, 4])
    return message


async def ask(channel: grpc.aio.Channel, data: bytes) -> tuple[str, str]:
    """Send bytes as they are; return the status, and what it says."""
    try:
        await channel.unary_unary(INFER)(data, timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


SIZES: Final = (0, 1, 3, -1, 2**31, 2**62, -(2**63), 2**63 - 1)
NAMES: Final = ("", "z", "A", "a\0", "ü" * 90, "b", "sum")
DATATYPES: Final = ("", "INT8", "FP16", "FP64", "BOOL", "BYTES", "fp32", "FLOAT", "FP32 ")
FIELDS: Final[dict[str, list[Any]]] = {
    "bool_contents": [True],
    "int_contents": [1],
    "int64_contents": [2**62],
    "uint_contents": [1],
    "uint64_contents": [2**63],
    "fp64_contents": [1.0],
    "bytes_contents": [b"\xff"],
}


def _shape(message: Any, random: np.random.Generator) -> None:
    shape = [SIZES[n] for n in random.integers(0, len(SIZES), random.integers(0, 5))]
    if shape != [2, 2]:
        message.inputs[random.integers(2)].shape[:] = shape


def _rank(message: Any, random: np.random.Generator) -> None:
    message.inputs[random.integers(2)].shape.extend([1] * random.integers(1, 100))


def _name(message: Any, random: np.random.Generator) -> None:
    message.inputs[0].name = NAMES[random.integers(len(NAMES))]


def _datatype(message: Any, random: np.random.Generator) -> None:
    message.inputs[random.integers(2)].datatype = DATATYPES[random.integers(len(DATATYPES))]


def _count(message: Any, random: np.random.Generator) -> None:
    contents = message.inputs[random.integers(2)].contents.fp32_contents
    contents[:] = [0.5] * random.choice([0, 1, 3, 5, 100])


def _field(message: Any, random: np.random.Generator) -> None:
    name = list(FIELDS)[random.integers(len(FIELDS))]
    tensor = message.inputs[random.integers(2)]
    if random.random() < 0.5:
        tensor.contents.ClearField("fp32_contents")
    getattr(tensor.contents, name).extend(FIELDS[name] * int(random.integers(1, 6)))


def _inputs(message: Any, random: np.random.Generator) -> None:
    if random.random() < 0.5:
        del message.inputs[random.integers(2)]
    else:
        message.inputs.add().CopyFrom(message.inputs[random.integers(2)])


def _raw(message: Any, random: np.random.Generator) -> None:
    """Other lengths, other numbers of tensors, typed contents beside."""
    kept = random.random() < 0.3
    for tensor in message.inputs:
        if not kept:
            tensor.ClearField("contents")
    lengths = random.choice([0, 1, 15, 17, 4000], random.choice([1, 2, 3, 50]))
    message.raw_input_contents.extend(bytes(size) for size in lengths)


def _output(message: Any, random: np.random.Generator) -> None:
    asked = message.outputs.add(name=["", "z", "a", "y\0"][random.integers(4)])
    asked.parameters["classification"].int64_param = int(random.choice([-1, 0, 2**62]))


def _parameter(message: Any, random: np.random.Generator) -> None:
    holder = [message, message.inputs[0]][random.integers(2)]
    if random.random() < 0.5:
        holder.parameters["shared_memory_region"].string_param = "r"
    else:
        holder.parameters["mine"].Clear()


def _reserved(message: Any, random: np.random.Generator) -> None:
    parameter = message.parameters[["timeout", "priority"][random.integers(2)]]
    if random.random() < 0.5:
        parameter.string_param = "1"
    else:
        parameter.int64_param = -1


def _model(message: Any, random: np.random.Generator) -> None:
    message.model_name, message.model_version = [("n", ""), ("", ""), ("m", "9"), ("m", "x")][
        random.integers(4)
    ]


def _size(message: Any, random: np.random.Generator) -> None:
    message.id = "i" * int(random.integers(LIMIT, 4 * LIMIT))


MUTATIONS: Final[tuple[Callable[[Any, np.random.Generator], None], ...]] = (
    *(_shape, _rank, _name, _datatype, _count, _field, _inputs, _raw, _output, _parameter),
    *(_reserved, _model, _size),
)


async def test_messages_with_something_wrong(served: tuple[grpc.aio.Channel, Service]) -> None:
    channel, service = served
    random = np.random.default_rng(SEED)
    seen = set()
    for number in range(390):
        message = good()
        # Two at once, now and then: one error must not hide in another's handling.
        for mutate in (MUTATIONS[number % 13], *([MUTATIONS[random.integers(13)]] * (number % 3))):
            if len(message.inputs) == 2:
                mutate(message, random)
        status, words = await ask(channel, message.SerializeToString())
        assert status in CALLERS, f"{status} {words}: {message}"
        assert words
        assert "Traceback" not in words
        seen.add(status)
        assert len(words) < 1000
    assert seen == CALLERS
    assert service.ready
    assert await ask(channel, good().SerializeToString()) == ("OK", "")


async def test_bytes_that_are_no_message(served: tuple[grpc.aio.Channel, Service]) -> None:
    channel, _ = served
    random = np.random.default_rng(SEED)
    whole = good().SerializeToString()
    broken = 0
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        status, words = await ask(channel, bytes(data[: random.integers(1, len(data) + 1)]))
        assert status in CALLERS | {"OK"}, f"{status} {words}: {bytes(data)!r}"
        broken += words == "the message is no ModelInferRequest"
    assert broken > 50
    assert await ask(channel, whole) == ("OK", "")


async def test_a_stream_goes_on_after_bytes_that_are_no_message(
    served: tuple[grpc.aio.Channel, Service],
) -> None:
    channel, _ = served
    whole = good().SerializeToString()
    stream = channel.stream_stream(
        STREAM, response_deserializer=pb.ModelStreamInferResponse.FromString
    )
    sent = [whole, b"\xff\xff", whole[:-3], b"x" * (LIMIT + 1), whole]
    errors = [answer.error_message async for answer in stream(iter(sent), timeout=10)]
    assert errors == [
        "",
        "the message is no ModelInferRequest",
        "the message is no ModelInferRequest",
        f"the message is larger than {LIMIT} bytes",
        "",
    ]
