"""Seeded inference requests, in every layout that the protocol allows."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import ml_dtypes
import numpy as np

from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.grpc_api import inference_pb2 as pb
from testkit.triton_models import IDENTITIES, MODELS, PAIR, ROWS, WORDS

if TYPE_CHECKING:
    from testkit.triton_models import Entry, Tensor

Array = np.ndarray[Any, Any]

_WORDS: Final = ("", "a", "größer ☃", 'quoted "\\/\b\n', "x" * 300, "null", "0")
_TYPED: Final = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
NO_JSON: Final = frozenset({"FP16", "BF16"})
"""Datatypes that tritonserver neither reads nor writes as JSON."""


@dataclass(frozen=True)
class Output:
    """An output that a request asks for by its name."""

    name: str
    binary: bool | None
    classes: int


@dataclass(frozen=True)
class Ask:
    """What a request says, in no protocol's words."""

    entry: Entry
    arrays: dict[str, Array]
    outputs: tuple[Output, ...]
    id: str | None
    parameters: dict[str, Any]
    binary_outputs: bool | None
    """REST: the flag for outputs that say nothing themselves."""
    binary: dict[str, bool] = field(default_factory=dict)
    """REST: which inputs travel behind the JSON; gRPC: raw as soon as one does."""
    nested: bool = False


def draw(random: np.random.Generator) -> Ask:
    """Make up a request that both servers must answer."""
    # The models with something to choose from are drawn as often as all the identities together.
    pool = MODELS if random.random() < 0.7 else (PAIR, WORDS)
    entry = pool[random.integers(len(pool))]
    rows = [int(random.integers(1, ROWS + 1))] if entry.batched else []
    open_size = int(random.integers(1, 7))
    arrays = {
        tensor.name: values(tensor, [*rows, *_sizes(tensor, open_size)], random)
        for tensor in entry.inputs
    }
    binary = {
        tensor.name: tensor.datatype in NO_JSON or random.random() < 0.5 for tensor in entry.inputs
    }
    needs_binary = any(tensor.datatype in NO_JSON for tensor in entry.outputs)
    return Ask(
        entry=entry,
        arrays=arrays,
        outputs=_outputs(entry, random, needs_binary=needs_binary),
        id=[None, "42", "größer", "a b/c", "x" * 200][random.integers(5)],
        parameters=_parameters(random),
        binary_outputs=True if needs_binary else [None, True, False][random.integers(3)],
        binary=binary,
        nested=random.random() < 0.5,
    )


def values(tensor: Tensor, shape: list[int], random: np.random.Generator) -> Array:
    """Make up a tensor: extremes as often as numbers from the middle."""
    if tensor.datatype == "BYTES":
        return np.array(
            [_WORDS[n] for n in random.integers(0, len(_WORDS), int(np.prod(shape)))], np.object_
        ).reshape(shape)
    dtype = DTYPES[tensor.datatype]
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype.kind in "fV":
        limits = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
        numbers = (random.standard_normal(shape) * 10.0 ** random.integers(-3, 4)).astype(dtype)
        special = random.choice(
            [float(limits.max), float(limits.min), float(limits.tiny), -0.0, 0.1, 1], shape
        )
    else:
        bounds = np.iinfo(dtype)
        numbers = random.integers(0, 100, shape).astype(dtype)
        special = np.array(
            [[bounds.min, bounds.max][n] for n in random.integers(0, 2, int(np.prod(shape)))], dtype
        ).reshape(shape)
    return np.where(random.random(shape) < 0.3, special.astype(dtype), numbers)


def rest_document(ask: Ask) -> tuple[dict[str, Any], list[bytes]]:
    """Write a request as JSON, and the tensors that go behind it."""
    tails: list[bytes] = []
    inputs = []
    for tensor in ask.entry.inputs:
        array = ask.arrays[tensor.name]
        written: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(array.shape),
        }
        if ask.binary[tensor.name]:
            tails.append(raw(array))
            written["parameters"] = {"binary_data_size": len(tails[-1])}
        else:
            written["data"] = (array if ask.nested else array.reshape(-1)).tolist()
        inputs.append(written)
    document: dict[str, Any] = {"inputs": inputs}
    if ask.outputs:
        document["outputs"] = [_rest_output(output) for output in ask.outputs]
    parameters = dict(ask.parameters)
    if ask.binary_outputs is not None:
        parameters["binary_data_output"] = ask.binary_outputs
    if parameters:
        document["parameters"] = parameters
    if ask.id is not None:
        document["id"] = ask.id
    return document, tails


def rest_body(document: Any, tails: list[bytes]) -> tuple[bytes, dict[str, str]]:
    """Join the two, with the header that parts them."""
    text = json.dumps(document).encode()
    headers = {"inference-header-content-length": str(len(text))} if tails else {}
    return text + b"".join(tails), headers


def grpc_message(ask: Ask) -> pb.ModelInferRequest:
    """Write a request as a message."""
    message = pb.ModelInferRequest(model_name=ask.entry.name, id=ask.id or "")
    is_raw = any(ask.binary.values())
    for tensor in ask.entry.inputs:
        array = ask.arrays[tensor.name]
        written = message.inputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=list(array.shape)
        )
        if is_raw:
            message.raw_input_contents.append(raw(array))
        else:
            flat = array.reshape(-1).tolist()
            if tensor.datatype == "BYTES":
                flat = [word.encode() for word in flat]
            getattr(written.contents, _TYPED[tensor.datatype]).extend(flat)
    for output in ask.outputs:
        asked = message.outputs.add(name=output.name)
        if output.classes:
            asked.parameters["classification"].int64_param = output.classes
    for name, value in ask.parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(message.parameters[name], kind, value)
    return message


def raw(array: Array) -> bytes:
    """Write a tensor's bytes."""
    if array.dtype.kind != "O":
        return array.tobytes()
    words = [word.encode() for word in array.reshape(-1).tolist()]
    return b"".join(struct.pack("<I", len(word)) + word for word in words)


def _sizes(tensor: Tensor, open_size: int) -> list[int]:
    return [open_size if size == -1 else size for size in tensor.dims]


def _outputs(
    entry: Entry, random: np.random.Generator, *, needs_binary: bool
) -> tuple[Output, ...]:
    if random.random() < 0.3:
        return ()
    names = [tensor.name for tensor in entry.outputs]
    random.shuffle(names)
    chosen = names[: random.integers(1, len(names) + 1)]
    countable = entry not in IDENTITIES or entry.inputs[0].datatype not in {
        "BYTES",
        "BOOL",
        *NO_JSON,
    }
    classes = int(random.integers(1, 5)) if random.random() < 0.25 and countable else 0
    return tuple(
        Output(
            name,
            True if needs_binary and not classes else [None, True, False][random.integers(3)],
            classes if entry is not WORDS else 0,
        )
        for name in chosen
    )


def _parameters(random: np.random.Generator) -> dict[str, Any]:
    choice: list[dict[str, Any]] = [
        {},
        {},
        {"timeout": 10_000_000},
        {"priority": 0},
        {"mine": "text", "yours": 7, "ours": True},
    ]
    return choice[random.integers(5)]


def _rest_output(output: Output) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if output.binary is not None:
        parameters["binary_data"] = output.binary
    if output.classes:
        parameters["classification"] = output.classes
    return {"name": output.name, **({"parameters": parameters} if parameters else {})}
