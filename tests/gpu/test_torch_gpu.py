"""The torch engine on a real GPU; skipped where there is none."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelyard_runtime.memory import is_out_of_memory
from modelyard_runtime.warming import warm
from testkit.runtime_serving import loaded_from

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def export(place: Path) -> tuple[Path, Any]:
    torch.manual_seed(0)
    layers = (
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(288, 4),
    )
    module = torch.nn.Sequential(*layers).eval()
    rows = ({0: torch.export.Dim.DYNAMIC},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=rows)
        torch.export.save(program, place / "model.pt2")
    return place, module


@pytest.mark.parametrize("yaml", ["", "dtype: FP16\n", "dtype: BF16\n", "optimize: 'Off'\n"])
def test_answers_are_those_of_the_cpu(tmp_path: Path, yaml: str) -> None:
    place, module = export(tmp_path)
    (place / "model.yaml").write_text(yaml)
    loaded = loaded_from(place, device="CUDA")
    model = loaded.model
    assert model.device == "cuda"
    assert warm(model, max_rows=16, optimize=loaded.config.optimize).batched
    tolerance = 3e-2 if "16" in yaml else 1e-3  # TF32 and its like are off by a little
    for rows in (1, 3, 16, 20):
        x = np.random.default_rng(rows).standard_normal((rows, 3, 8, 8)).astype(np.float32)
        (got,) = model.predict((x,))
        with torch.inference_mode():
            expected = module(torch.from_numpy(x)).numpy()
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def test_cuda_graphs_answer_every_batch_size() -> None:
    from modelyard_runtime.engine import torch_cuda  # noqa: PLC0415 - needs torch

    device = torch.device("cuda")
    layer = torch.nn.Linear(4, 3).to(device)
    with torch.inference_mode():
        example = (torch.zeros(8, 4, device=device),)
        call = torch_cuda.GraphedCall(
            lambda x: (layer(x),), example, torch_cuda.powers_of_two(8), torch_cuda.capture_graph
        )
        for rows in (1, 3, 8, 9):
            x = torch.randn(rows, 4, device=device)
            torch.testing.assert_close(call(x)[0], layer(x))


def test_a_batch_that_does_not_fit_is_out_of_memory(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text(
        "import torch\n"
        "class Large(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.empty(1 << 44, device=x.device)\n"
    )
    (tmp_path / "model.yaml").write_text("format: TorchEager\n")
    model = loaded_from(tmp_path, device="CUDA").model
    with pytest.raises(RuntimeError) as caught:
        model.predict((np.zeros((1, 1), np.float32),))
    assert is_out_of_memory(caught.value)
