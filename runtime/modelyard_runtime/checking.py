"""``modelyard-runtime check``: does this model load, and does it answer? Without a port, for CI."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from modelyard_runtime.call import Call
from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.errors import ModelyardRuntimeError, StartupError
from modelyard_runtime.golden import Recording, read_warmups
from modelyard_runtime.service import Service
from modelyard_runtime.tensors import encode_tensor, not_finite
from modelyard_runtime.wire.rest_v2 import decode_request, encode_answer
from modelyard_runtime.wire.rest_v2_client import decode_answer, encode_question

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Array, Arrays, TensorSpec
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.settings import RuntimeSettings

_TIMES: Final = 10
_OPEN: Final = 16
"""What is tried for an inner size that the model leaves open."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out about one model.

    Attributes:
        name: The served name.
        answers: Samples that were answered alike in JSON and in binary.
        forward_ms: Median time of a sample, in milliseconds; None when none was answered.
        problem: What is wrong; empty when nothing is.
        served: The model; None when it does not load.
    """

    name: str
    answers: int = 0
    forward_ms: float | None = None
    problem: str = ""
    served: ServedModel | None = None


def check(settings: RuntimeSettings, requests: list[Path]) -> int:
    """Load, warm and ask models, and print what was found out.

    Args:
        settings: Which models, and how they are to run; golden requests are compared too.
        requests: Files with requests; empty makes one up from the declared inputs.

    Returns:
        The exit code: 0 when every model answers, else 1.
    """
    console = Console()
    with console.status("loading and warming"):
        found = asyncio.run(_check(settings, requests))
    console.print(_table(found))
    for each in found:
        if each.problem:
            console.print(f"[red]✗[/] {each.name}: {each.problem}", highlight=False)
    return 1 if any(each.problem for each in found) else 0


async def _check(settings: RuntimeSettings, requests: list[Path]) -> list[Checked]:
    service = Service(settings)
    try:
        await service.start()
        found = [await _ask(served, requests) for served in service.repository.served]
    except StartupError as failure:
        name = settings.model_name or str(settings.model_repository)
        problem = f"{failure.reason}: {failure.message}. {failure.hint}"
        return [Checked(name, problem=problem)]
    finally:
        service.close()
    broken = [row for row in service.repository.index() if row.get("reason")]
    return [*found, *(Checked(row["name"], problem=row["reason"]) for row in broken)]


async def _ask(served: ServedModel, requests: list[Path]) -> Checked:
    where, times = "a made-up request", []
    try:
        samples = read_warmups(requests) or [Recording(where, _made_up(served), {})]
        for sample in samples:
            where = sample.name
            times.append(await _round_trip(served, sample.request))
    except ModelyardRuntimeError as error:
        return Checked(served.name, len(times), problem=f"{where}: {error}", served=served)
    return Checked(served.name, len(times), median(times) * 1000, served=served)


async def _round_trip(served: ServedModel, body: bytes) -> float:
    """Ask in JSON and in binary; return the median time of the model and its queue, in seconds."""
    asked = decode_request(body, served.signature)
    plain = await _answer(served, body, None)
    copy, length = encode_question(served, asked.question)
    binary = await _answer(served, copy, length)
    for name, array in plain.items():
        if not np.array_equal(array, binary[name]):
            raise _problem(served, f"output {name!r} differs between JSON and binary")
    seconds = []
    for _ in range(_TIMES):
        begun = time.perf_counter()
        outputs = await served.answer(asked.question, _call())
        seconds.append(time.perf_counter() - begun)
    if (wrong := not_finite(served.signature.outputs, outputs)) is not None:
        raise _problem(served, f"output {wrong!r} holds NaN or infinity")
    return median(seconds)


async def _answer(served: ServedModel, body: bytes, length: int | None) -> dict[str, Array]:
    asked = decode_request(body, served.signature, length)
    outputs: Arrays = await served.answer(asked.question, _call())
    text, header_length = encode_answer(served, asked, outputs)
    return decode_answer(text, header_length or None)


def _call() -> Call:
    now = time.monotonic()
    return Call(
        request_id="check", protocol="check", started=time.perf_counter(), deadline=now + 60
    )


def _made_up(served: ServedModel) -> bytes:
    """Write a request of one row of zeros."""
    inputs = []
    for spec in served.signature.inputs:
        if spec.shape is None or spec.datatype not in DTYPES:
            raise _problem(served, f"input {spec.name!r} declares no shape; give --requests FILE")
        inputs.append(encode_tensor(spec.name, _zeros(spec, spec.shape)))
    return orjson.dumps({"inputs": inputs}, option=orjson.OPT_SERIALIZE_NUMPY)


def _zeros(spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    sizes = [1 if at == 0 else _OPEN for at in range(len(shape))]
    filled = tuple(own if size == -1 else size for own, size in zip(sizes, shape, strict=True))
    value: Any = b"a" if spec.datatype == "BYTES" else 0
    return np.full(filled, value, DTYPES[spec.datatype])


def _problem(served: ServedModel, what: str) -> ModelyardRuntimeError:
    return ModelyardRuntimeError(f"version {served.version}: {what}")


def _table(found: list[Checked]) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("model", "version", "format", "inputs", "outputs", "batched", "answers", "ms"):
        table.add_column(column)
    table.add_column("made faster by")
    for each in found:
        mark = "[red]✗[/]" if each.problem else "[green]✓[/]"
        if each.served is None:
            table.add_row(f"{mark} {each.name}")
            continue
        document = each.served.status()
        optimized = document.get("optimizations") or {}
        table.add_row(
            f"{mark} {each.name}",
            str(document["version"]),
            f"{document['format']} on {document['device']}",
            _tensors(document["inputs"]),
            _tensors(document["outputs"]),
            "yes" if document["batched"] else "no",
            str(each.answers),
            "" if each.forward_ms is None else f"{each.forward_ms:.2f}",
            f"{optimized['chosen']} ({optimized['gain']}x)" if optimized.get("gain", 1) > 1 else "",
        )
    return table


def _tensors(documents: list[dict[str, Any]]) -> str:
    return "\n".join(f"{each['name']} {each['datatype']} {each['shape']}" for each in documents)
