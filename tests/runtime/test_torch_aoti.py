"""AOTInductor packages: machine code behind the same batches as every other format."""

from __future__ import annotations

import asyncio
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.warming import warm
from testkit import runtime_models as models
from testkit.runtime_serving import loaded_from, serving

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
DECLARED = "inputs: [{name: ids, dtype: INT64, shape: [-1, 2]}]\n"
TABLE = np.arange(20, dtype=np.float32).reshape(10, 2)


class Lookup(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding.from_pretrained(torch.from_numpy(TABLE))

    def forward(self, ids: Tensor) -> Tensor:
        rows: Tensor = self.table(ids)
        return rows.sum(1)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile once: it takes g++ half a minute."""
    path: Path = tmp_path_factory.mktemp("aoti") / "model.pt2"
    rows = torch.export.Dim("rows", min=2, max=64)
    example = (torch.zeros(4, 2, dtype=torch.int64),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Lookup().eval(), example, dynamic_shapes=({0: rows},))
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    return path


def folder(place: Path, package: Path, yaml: str = DECLARED) -> Path:
    (place / "model.pt2").write_bytes(package.read_bytes())
    (place / "model.yaml").write_text(yaml)
    return place


def fake(place: Path, yaml: str = "") -> Path:
    with zipfile.ZipFile(place / "model.pt2", "w") as archive:
        archive.writestr("model/data/aotinductor/model/code.so", b"\x7fELF")
    (place / "model.yaml").write_text(yaml)
    return place


def refusal(place: Path, **settings: Any) -> StartupError:
    with pytest.raises(StartupError) as caught:
        loaded_from(place, **settings)
    return caught.value


def test_machine_code_needs_the_opt_in(tmp_path: Path) -> None:
    refused = refusal(fake(tmp_path))
    assert refused.reason is Reason.PICKLE_NOT_ALLOWED
    assert "machine code" in refused.message


@pytest.mark.parametrize("yaml", ["dtype: BF16\n", "compile: {}\n"])
def test_what_is_compiled_cannot_be_changed(tmp_path: Path, yaml: str) -> None:
    refused = refusal(fake(tmp_path, yaml), allow_pickle=True)
    assert refused.reason is Reason.INVALID_SETTINGS
    assert "compiled already" in refused.message


def test_a_broken_package_is_refused(tmp_path: Path) -> None:
    assert refusal(fake(tmp_path), allow_pickle=True).reason is Reason.INVALID_ARTIFACT


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_declared_inputs_make_batches(tmp_path: Path, package: Path) -> None:
    model = loaded_from(folder(tmp_path, package), allow_pickle=True).model
    assert (model.format, model.platform, model.batched) == (
        "TorchExport",
        "pytorch_aotinductor",
        True,
    )
    assert warm(model, max_rows=16).batched
    random = np.random.default_rng(0)
    for rows in (1, 2, 7, 64):  # a single row is fewer than the program was exported for
        ids = random.integers(0, 10, (rows, 2))
        (got,) = model.predict((ids,))
        np.testing.assert_array_equal(got, TABLE[ids].sum(1))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_package_checks_what_it_is_given(tmp_path: Path, package: Path) -> None:
    model = loaded_from(folder(tmp_path, package, ""), allow_pickle=True).model
    assert [(s.name, s.datatype, s.shape) for s in model.inputs] == [("input", "ANY", None)]
    assert not model.batched
    for wrong in (
        np.zeros((2, 2), np.float32),
        np.zeros((2, 3), np.int64),
        np.zeros((65, 2), np.int64),
    ):
        with pytest.raises(RuntimeError, match="input_handles"):
            model.predict((wrong,))
    with pytest.raises(ValueError, match="takes 2 rows or more, got 1"):
        model.predict((np.zeros((1, 2), np.int64),))
    assert model.predict((np.zeros((2, 2), np.int64),))[0].tolist() == [[0, 2], [0, 2]]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_poisonous_request_fails_alone(tmp_path: Path, package: Path) -> None:
    settings = {"max_batch_size": 16, "max_delay_ms": 50_000, "allow_pickle": True}
    ids = [[at % 10, (at + 1) % 10] for at in range(15)] + [[3, 99]]
    async with serving(folder(tmp_path, package), **settings) as (client, service):
        assert service.model("m", None).model.batched
        answers = await asyncio.gather(
            *(
                client.post("/v2/models/m/infer", json=models.request("ids", "INT64", [1, 2], row))
                for row in ids
            )
        )
    for row, answer in zip(ids[:-1], answers[:-1], strict=True):
        assert answer.json()["outputs"][0]["data"] == TABLE[row].sum(0).tolist()
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (500, "model_error")
