"""Requests with one thing wrong each, made from good ones."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime.grpc_api import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    Document = dict[str, Any]

GOOD: Final[Document] = {
    "id": "1",
    "inputs": [
        {"name": "a", "datatype": "INT32", "shape": [2, 4], "data": [1, 2, 3, 4, 5, 6, 7, 8]},
        {"name": "b", "datatype": "INT32", "shape": [2, 4], "data": [8, 7, 6, 5, 4, 3, 2, 1]},
    ],
}
"""What the model ``pair`` takes."""


def _set(path: str, value: Any) -> Callable[[Document], None]:
    """Put a value where a dotted path leads; ``...`` removes what is there."""

    def change(document: Document) -> None:
        *way, last = (int(p) if p.isdigit() else p for p in path.split("."))
        place: Any = document
        for step in way:
            place = place[step]
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return change


def _without_second(document: Document) -> None:
    del document["inputs"][1]


def _twice(document: Document) -> None:
    document["inputs"][1] = dict(document["inputs"][0])


def _rows(document: Document, count: int) -> None:
    for tensor in document["inputs"]:
        tensor["shape"] = [count, 4]
        tensor["data"] = [1] * (count * 4)


BROKEN_DOCUMENTS: Final[dict[str, Callable[[Document], None]]] = {
    "no inputs": _set("inputs", ...),
    "empty inputs": _set("inputs", []),
    "inputs as object": _set("inputs", {}),
    "input as string": _set("inputs.0", "a"),
    "input without name": _set("inputs.0.name", ...),
    "input name as number": _set("inputs.0.name", 7),
    "unknown input": _set("inputs.0.name", "z"),
    "missing input": _without_second,
    "input twice": _twice,
    "other datatype": _set("inputs.0.datatype", "INT64"),
    "unknown datatype": _set("inputs.0.datatype", "FLOAT"),
    "lower-case datatype": _set("inputs.0.datatype", "int32"),
    "no datatype": _set("inputs.0.datatype", ...),
    "no shape": _set("inputs.0.shape", ...),
    "negative size": _set("inputs.0.shape", [-1, 4]),
    "size as string": _set("inputs.0.shape", ["2", 4]),
    "size as fraction": _set("inputs.0.shape", [2.5, 4]),
    "shape as number": _set("inputs.0.shape", 8),
    "rank too low": _set("inputs.0.shape", [8]),
    "rank too high": _set("inputs.0.shape", [2, 2, 2]),
    "inner size": _set("inputs.0.shape", [4, 2]),
    "rows disagree": _set("inputs.0.shape", [1, 4]),
    "too few values": _set("inputs.0.data", [1, 2, 3]),
    "too many values": _set("inputs.0.data", [1] * 9),
    "no data": _set("inputs.0.data", ...),
    "data as string": _set("inputs.0.data", "12345678"),
    "data as object": _set("inputs.0.data", {"0": 1}),
    "text among numbers": _set("inputs.0.data.3", "4"),
    "null among numbers": _set("inputs.0.data.3", None),
    "boolean among integers": _set("inputs.0.data.3", True),
    "fraction among integers": _set("inputs.0.data.3", 4.5),
    "value too large": _set("inputs.0.data.3", 2**31),
    "value very large": _set("inputs.0.data.3", 10**30),
    "nested otherwise": _set("inputs.0.data", [[1, 2], [3, 4], [5, 6], [7, 8]]),
    "ragged": _set("inputs.0.data", [[1, 2, 3], [4, 5, 6, 7, 8]]),
    "unknown output": _set("outputs", [{"name": "z"}]),
    "output twice": _set("outputs", [{"name": "sum"}, {"name": "sum"}]),
    "outputs as object": _set("outputs", {"name": "sum"}),
    "output as string": _set("outputs", ["sum"]),
    "output without name": _set("outputs", [{}]),
    "empty outputs": _set("outputs", []),
    "binary flag as text": _set("outputs", [{"name": "sum", "parameters": {"binary_data": "no"}}]),
    "classes below zero": _set("outputs", [{"name": "sum", "parameters": {"classification": -1}}]),
    "zero classes": _set("outputs", [{"name": "sum", "parameters": {"classification": 0}}]),
    "classes as text": _set("outputs", [{"name": "sum", "parameters": {"classification": "2"}}]),
    "shared memory in": _set("inputs.0.parameters", {"shared_memory_region": "r"}),
    "shared memory out": _set(
        "outputs", [{"name": "sum", "parameters": {"shared_memory_region": "r"}}]
    ),
    "binary data that is not there": _set("inputs.0.parameters", {"binary_data_size": 32}),
    "negative binary size": _set("inputs.0.parameters", {"binary_data_size": -1}),
    "binary size as text": _set("inputs.0.parameters", {"binary_data_size": "32"}),
    "id as number": _set("id", 7),
    "parameters as array": _set("parameters", []),
    "tensor parameters as text": _set("inputs.0.parameters", "x"),
    "time-out as text": _set("parameters", {"timeout": "1"}),
    "time-out below zero": _set("parameters", {"timeout": -1}),
    "priority as text": _set("parameters", {"priority": "1"}),
    "parameter as object": _set("parameters", {"mine": {"a": 1}}),
    "parameter as fraction": _set("parameters", {"mine": 1.5}),
    "parameter as null": _set("parameters", {"mine": None}),
    "unknown key": _set("mine", 1),
    "unknown key of a tensor": _set("inputs.0.mine", 1),
    "too many rows": lambda document: _rows(document, 9),
    "no rows": lambda document: _rows(document, 0),
}
"""What is wrong → what makes it so."""

BODIES: Final[dict[str, tuple[bytes, dict[str, str]]]] = {
    "empty body": (b"", {}),
    "cut off": (b'{"inputs":[', {}),
    "array body": (b"[]", {}),
    "number body": (b"7", {}),
    "null body": (b"null", {}),
    "not UTF-8": (b'{"id":"\xff","inputs":[]}', {}),
    "NaN literal": (b'{"inputs":[{"name":"a","datatype":"INT32","shape":[1,4],"data":[NaN]}]}', {}),
    "deep nesting": (b"[" * 2000, {}),
    "header longer than body": (b"{}", {"inference-header-content-length": "10"}),
    "negative header length": (b"{}", {"inference-header-content-length": "-1"}),
    "header length as text": (b"{}", {"inference-header-content-length": "x"}),
    "raw body for two inputs": (b"1234", {"inference-header-content-length": "0"}),
    "unknown encoding": (b"{}", {"content-encoding": "br"}),
    "broken gzip": (b"{}", {"content-encoding": "gzip"}),
    "broken deflate": (b"{}", {"content-encoding": "deflate"}),
    "gzip cut off": (gzip.compress(b"{}" * 500)[:20], {"content-encoding": "gzip"}),
}
"""What is wrong → body and headers, for the model ``pair``."""

PLACES: Final[dict[str, tuple[str, str]]] = {
    "unknown model": ("POST", "/v2/models/nope/infer"),
    "unknown version": ("POST", "/v2/models/pair/versions/9/infer"),
    "version as text": ("POST", "/v2/models/pair/versions/x/infer"),
    "infer with GET": ("GET", "/v2/models/pair/infer"),
    "metadata of an unknown model": ("GET", "/v2/models/nope"),
    "metadata of an unknown version": ("GET", "/v2/models/pair/versions/9"),
    "config of an unknown model": ("GET", "/v2/models/nope/config"),
    "statistics of an unknown model": ("GET", "/v2/models/nope/stats"),
    "readiness of an unknown model": ("GET", "/v2/models/nope/ready"),
    "unknown path": ("GET", "/v2/nope"),
    "load of an unknown model": ("POST", "/v2/repository/models/nope/load"),
    "unload of an unknown model": ("POST", "/v2/repository/models/nope/unload"),
}
"""What is wrong → method and path, with a good body."""


def good_message() -> pb.ModelInferRequest:
    """Return what the model ``pair`` takes."""
    message = pb.ModelInferRequest(model_name="pair", id="1")
    for name in ("a", "b"):
        tensor = message.inputs.add(name=name, datatype="INT32", shape=[2, 4])
        tensor.contents.int_contents.extend(range(8))
    return message


def _raw(*sizes: int) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        for tensor in message.inputs:
            tensor.ClearField("contents")
        message.raw_input_contents.extend(bytes(size) for size in sizes)

    return change


def _both(message: Any) -> None:
    message.raw_input_contents.extend([bytes(32), bytes(32)])


def _shape(*shape: int) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        message.inputs[0].shape[:] = shape

    return change


def _first(**values: str) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        for name, value in values.items():
            setattr(message.inputs[0], name, value)

    return change


def _contents(**values: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        message.inputs[0].ClearField("contents")
        for name, value in values.items():
            getattr(message.inputs[0].contents, name).extend(value)

    return change


def _drop_second(message: Any) -> None:
    del message.inputs[1]


def _name_twice(message: Any) -> None:
    message.inputs[1].name = "a"


def _all_rows(count: int) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        for tensor in message.inputs:
            tensor.shape[:] = [count, 4]
            tensor.contents.int_contents[:] = [1] * (count * 4)

    return change


def _output(name: str, **parameters: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        asked = message.outputs.add(name=name)
        for key, value in parameters.items():
            kind = "int64_param" if isinstance(value, int) else "string_param"
            setattr(asked.parameters[key], kind, value)

    return change


def _outputs_twice(message: Any) -> None:
    message.outputs.add(name="sum")
    message.outputs.add(name="sum")


def _message(**values: str) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        for name, value in values.items():
            setattr(message, name, value)

    return change


def _parameter(name: str, kind: str, value: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        setattr(message.parameters[name], kind, value)

    return change


def _input_parameter(message: Any) -> None:
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"


BROKEN_MESSAGES: Final[dict[str, Callable[[Any], None]]] = {
    "unknown model": _message(model_name="nope"),
    "no model": _message(model_name=""),
    "unknown version": _message(model_version="9"),
    "version as text": _message(model_version="x"),
    "no inputs": lambda message: message.ClearField("inputs"),
    "missing input": _drop_second,
    "unknown input": _first(name="z"),
    "input without name": _first(name=""),
    "input twice": _name_twice,
    "other datatype": _first(datatype="INT64"),
    "unknown datatype": _first(datatype="FLOAT"),
    "no datatype": _first(datatype=""),
    "negative size": _shape(-1, 4),
    "rank too low": _shape(8),
    "rank too high": _shape(2, 2, 2),
    "no shape": _shape(),
    "inner size": _shape(4, 2),
    "rows disagree": _shape(1, 4),
    "too few values": _contents(int_contents=[1] * 7),
    "too many values": _contents(int_contents=[1] * 9),
    "no data": lambda message: message.inputs[0].ClearField("contents"),
    "values of another field": _contents(fp32_contents=[1.0] * 8),
    "values of two fields": _contents(int_contents=[1] * 8, fp32_contents=[1.0] * 8),
    "raw too short": _raw(31, 32),
    "raw too long": _raw(32, 33),
    "raw of one tensor": _raw(32),
    "raw of three tensors": _raw(32, 32, 32),
    "raw and typed": _both,
    "unknown output": _output("z"),
    "output without name": _output(""),
    "output twice": _outputs_twice,
    "classes below zero": _output("sum", classification=-1),
    "classes as text": _output("sum", classification="2"),
    "shared memory out": _output("sum", shared_memory_region="r"),
    "shared memory in": _input_parameter,
    "time-out as text": _parameter("timeout", "string_param", "1"),
    "time-out below zero": _parameter("timeout", "int64_param", -1),
    "priority as text": _parameter("priority", "string_param", "1"),
    "parameter without value": lambda message: message.parameters["mine"].Clear(),
    "too many rows": _all_rows(9),
    "no rows": _all_rows(0),
}
"""What is wrong → what makes it so."""
