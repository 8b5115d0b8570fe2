"""Every format: the right values over REST, and a poisonous request fails alone in its batch."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.wire.raw import encode_raw
from testkit import runtime_formats as formats
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from testkit.runtime_formats import Case, Table

LONG = [pytest.mark.slow, pytest.mark.timeout(300)]
"""Importing such a library takes seconds, and on a busy machine a minute."""
FORMATS = [
    *formats.PLAIN,
    *(
        pytest.param(make, marks=[pytest.mark.torch, *LONG])
        for make in (*formats.TORCH, *formats.SLOW)
    ),
    pytest.param(
        formats.mlflow,
        marks=[
            *LONG,
            pytest.mark.skipif(
                importlib.util.find_spec("mlflow") is None,
                reason="the extra runtime-mlflow is not installed",
            ),
        ],
    ),
]
BATCH = {"max_batch_size": formats.ROWS, "max_delay_ms": 50_000, "optimize": "Off"}
"""A batch leaves when it is full: all requests of a test are in it, whatever the machine does."""


async def ask(client: httpx.AsyncClient, case: Case, row: Table) -> httpx.Response:
    """Send one row as binary data, which can say everything, and take JSON."""
    raw = encode_raw(row)
    tensor: dict[str, Any] = {"name": case.input, "datatype": case.datatype, "shape": row.shape}
    tensor["parameters"] = {"binary_data_size": len(raw)}
    asked = {"inputs": [tensor], "outputs": [{"name": case.output}]}
    head = json.dumps(asked).encode()
    length = {"inference-header-content-length": str(len(head))}
    return await client.post("/v2/models/m/infer", content=head + raw, headers=length)


def check(answer: httpx.Response, expected: Table) -> None:
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert output["shape"] == list(expected.shape)
    data = np.array(output["data"]).reshape(expected.shape)
    if expected.dtype.kind == "O":
        assert data.tolist() == [word.decode() for word in expected]
    else:
        np.testing.assert_allclose(data, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore")  # what the libraries say while they save is not ours
@pytest.mark.parametrize("make", FORMATS)
async def test_a_format(make: Callable[[Path], Case], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    case = make(folder)
    async with serving(folder, **BATCH, **case.settings) as (client, service):
        served = service.model("m", None)
        assert served.model.format == case.format
        whole = await ask(client, case, case.rows)
        check(whole, case.expected)

        poisoned = case.rows.copy()
        if case.poison is None:
            refuse_last(served, case.rows)
        else:
            poisoned[-1:] = case.poison
        rows = [poisoned[at : at + 1] for at in range(formats.ROWS)]
        answers = await asyncio.gather(*(ask(client, case, row) for row in rows))
        for at, answer in enumerate(answers[:-1]):
            check(answer, case.expected[at : at + 1])
        assert answers[-1].status_code in {400, 500}
        assert answers[-1].json()["code"] in {"invalid_input", "model_error"}

        document = served.statistics_document()
        assert [
            (b["batch_size"], b["compute_infer"]["count"]) for b in document["batch_stats"]
        ] == [(formats.ROWS, 2)]
        assert counted(service, "batch_bisections_total")
        assert counted(service, "poison_requests_total") == 1


def refuse_last(served: Any, rows: Table) -> None:
    """Let a model that takes everything refuse one row, as a broken library would."""
    predict = served.model.predict

    def refusing(inputs: Any) -> Any:
        if (inputs[0] == rows[-1]).all(axis=1).any():
            raise ValueError("refused")
        return predict(inputs)

    served.model.predict = refusing


def counted(service: Any, name: str) -> float | None:
    labels = {"model": "m", "version": "1", "revision": ""}
    found: float | None = service.metrics.registry.get_sample_value(f"modelyard_{name}", labels)
    return found


async def test_onnx_in_bfloat16(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "bfloat16",
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["batch", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(tmp_path / "model.onnx"))
    rows = np.array([[1.5, -2], [3.25, 1e30]], DTYPES["BF16"])
    async with serving(tmp_path / "model.onnx") as (client, _):
        tensor = {"name": "x", "datatype": "BF16", "shape": [2, 2]}
        body = {"inputs": [{**tensor, "data": rows.astype(float).reshape(-1).tolist()}]}
        answer = await client.post("/v2/models/m/infer", json=body)
        (output,) = answer.json()["outputs"]
        assert output["datatype"] == "BF16"
        assert np.array(output["data"], DTYPES["BF16"]).tolist() == rows.reshape(-1).tolist()
        raw = encode_raw(rows)
        asked: dict[str, Any] = {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
        head = json.dumps(asked).encode()
        length = {"inference-header-content-length": str(len(head))}
        answer = await client.post("/v2/models/m/infer", content=head + raw, headers=length)
        tail = answer.content[int(answer.headers["inference-header-content-length"]) :]
        assert tail == raw
