"""TorchExport and TorchScript: what the artifact says is what is served."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.loading import find_artifact, load_model
from testkit import runtime_models as models
from testkit.runtime_serving import loaded_from, serving

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

torch = pytest.importorskip("torch")
# torch's own imports and its deprecation of TorchScript.
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
INFER = "/v2/models/m/infer"


class Linear(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.linear(x)
        return output


class Named(torch.nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, left: Tensor, *, right: Tensor) -> dict[str, Tensor]:
        return {"total": left + right, "first": left.to(torch.int32)}


class Pooled(torch.nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0, keepdim=True)


def export(path: Path, module: Any, args: tuple[Any, ...], **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module.eval(), args, **options), path)
    return path


DYNAMIC = {0: torch.export.Dim.DYNAMIC}


def load(path: Path, **options: Any) -> Any:
    found = find_artifact(path, model_format="Auto")
    return load_model(found, **{"device": "CPU", "threads": 1, "allow_pickle": False, **options})


def test_a_dynamic_first_axis_is_a_batch(tmp_path: Path) -> None:
    module = Linear()
    path = export(tmp_path / "m.pt2", module, (torch.zeros(2, 4),), dynamic_shapes=(DYNAMIC,))
    model = load(path)
    assert model.batched
    assert [spec.as_document() for spec in model.inputs] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    ]
    assert [spec.as_document() for spec in model.outputs] == [
        {"name": "output", "datatype": "FP32", "shape": [-1, 3]}
    ]
    for rows in (1, 2, 7):
        x = np.random.default_rng(0).random((rows, 4), np.float32)
        (got,) = model.predict((x,))
        np.testing.assert_allclose(got, module(torch.from_numpy(x)).detach(), rtol=1e-5)


def test_an_upper_bound_limits_batches(tmp_path: Path) -> None:
    bounded = {0: torch.export.Dim("batch", max=6)}
    path = export(tmp_path / "m.pt2", Linear(), (torch.zeros(2, 4),), dynamic_shapes=(bounded,))
    assert load(path).max_rows == 6


def test_a_static_program_is_not_batched(tmp_path: Path) -> None:
    model = load(export(tmp_path / "m.pt2", Linear(), (torch.zeros(1, 4),)))
    assert not model.batched
    assert model.inputs[0].shape == (1, 4)


def test_keywords_and_dictionaries_keep_their_names(tmp_path: Path) -> None:
    path = export(
        tmp_path / "m.pt2",
        Named(),
        (torch.zeros(2, 3),),
        kwargs={"right": torch.ones(2, 3)},
        dynamic_shapes={"left": DYNAMIC, "right": DYNAMIC},
    )
    model = load(path)
    assert [spec.name for spec in model.inputs] == ["left", "right"]
    outputs = {spec.name: spec.datatype for spec in model.outputs}
    assert outputs == {"total": "FP32", "first": "INT32"}
    one = np.ones((1, 3), np.float32)
    answer = dict(zip([s.name for s in model.outputs], model.predict((one, 2 * one)), strict=True))
    assert answer["total"].tolist() == [[3, 3, 3]]
    assert answer["first"].tolist() == [[1, 1, 1]]


def test_bfloat16_travels_as_it_is(tmp_path: Path) -> None:
    module = Linear().bfloat16()
    example = (torch.zeros(2, 4, dtype=torch.bfloat16),)
    path = export(tmp_path / "m.pt2", module, example, dynamic_shapes=(DYNAMIC,))
    model = load(path)
    assert (model.inputs[0].datatype, model.outputs[0].datatype) == ("BF16", "BF16")
    x = torch.tensor([[1.5, -2, 0.25, 3]], dtype=torch.bfloat16)
    array = x.view(torch.uint16).numpy().view(DTYPES["BF16"])
    (got,) = model.predict((array,))
    assert got.dtype == DTYPES["BF16"]
    assert got.astype(np.float32).tolist() == module(x).float().tolist()


class Pickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('code ran')",))


def test_an_exported_program_is_data_and_never_code(tmp_path: Path) -> None:
    from modelyard_runtime.engine import torch_engine, torch_export  # noqa: PLC0415 - needs torch

    path = export(tmp_path / "m.pt2", Linear(), (torch.zeros(1, 4),))
    payload = io.BytesIO()
    torch.save(((Pickled(),), {}), payload)
    forged = tmp_path / "forged" / "m.pt2"
    forged.parent.mkdir()
    reader = torch._C.PyTorchFileReader(str(path))
    writer = torch._C.PyTorchFileWriter(str(forged))
    for name in reader.get_all_records():
        if name.startswith(".data") or name in {"byteorder", "version"}:
            continue
        record = reader.get_record(name)
        if name.endswith("sample_inputs/model.pt"):
            record = payload.getvalue()
        writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    load(forged)  # what is pickled is not read
    placement = torch_engine.Placement(torch.device("cpu"), 1)
    with pytest.raises(StartupError) as caught:
        torch_export._load_slowly(forged, placement)
    assert caught.value.reason is Reason.INVALID_ARTIFACT


def test_a_wider_dtype_than_the_artifacts_is_refused(tmp_path: Path) -> None:
    example = (torch.zeros(2, 4, dtype=torch.float16),)
    export(tmp_path / "m.pt2", Linear().half(), example)
    (tmp_path / "model.yaml").write_text("dtype: FP32\n")
    with pytest.raises(StartupError) as caught:
        loaded_from(tmp_path)
    assert caught.value.reason is Reason.INVALID_SETTINGS
    assert "float16" in caught.value.message


def test_cuda_where_there_is_none(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    path = export(tmp_path / "m.pt2", Linear(), (torch.zeros(1, 4),))
    with pytest.raises(StartupError) as caught:
        load(path, device="CUDA")
    assert caught.value.reason == Reason.DEVICE_UNAVAILABLE


async def test_rows_that_meet_in_the_model_are_never_batched_across_callers(
    tmp_path: Path,
) -> None:
    path = export(tmp_path / "m.pt2", Pooled(), (torch.zeros(2, 2),), dynamic_shapes=(DYNAMIC,))
    async with serving(path) as (client, service):
        assert service.status()["models"][0]["batched"] is False
        answer = await client.post(INFER, json=models.request("x", "FP32", [2, 2], [1, 1, 3, 3]))
        assert answer.json()["outputs"][0]["data"] == [-1, -1, 1, 1]


async def test_a_script_takes_what_it_is_given(tmp_path: Path) -> None:
    module = Linear().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(tmp_path / "m.pt")
    async with serving(tmp_path / "m.pt") as (client, service):
        (status,) = service.status()["models"]
        assert (status["format"], status["batched"]) == ("TorchScript", False)
        body = models.request("x", "FP32", [2, 4], [1.0] * 8)
        answer = await client.post(INFER, json=body)
        (output,) = answer.json()["outputs"]
        assert (output["name"], output["shape"]) == ("output", [2, 3])
        expected = module(torch.ones(2, 4)).detach().numpy()
        np.testing.assert_allclose(np.reshape(output["data"], (2, 3)), expected, rtol=1e-5)
        wrong = models.request("x", "FP32", [1, 5], [1.0] * 5)
        answer = await client.post(INFER, json=wrong)
        assert (answer.status_code, answer.json()["code"]) == (500, "model_error")
