"""Exported programs are read without torch's compiler, and answer as torch's own loader's do."""

from __future__ import annotations

import gc
import linecache
import subprocess
import sys
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelyard_runtime.errors import InvalidInputError
from testkit.runtime_serving import loaded_from

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
DYNAMIC = torch.export.Dim.DYNAMIC
ROWS = {0: DYNAMIC}
BOTH = {0: DYNAMIC, 1: DYNAMIC}


class Recurrent(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.LSTM(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        steps, (last, _) = self.layer(x)
        return steps, last.transpose(0, 1)


class Parts(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.arange(6.0))
        self.register_buffer("scale", torch.full((6,), 2.0), persistent=False)
        self.table = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        left, right = torch.split(x * self.scale + self.shift, 3, dim=1)
        best = left.topk(2, dim=1)
        hidden = right.masked_fill(right > 0, float("-inf"))
        return {"best": best.values, "at": best.indices, "rest": hidden.softmax(-1) * self.table}


class Sized(torch.nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        rows, length = x.shape
        return (x * mask).reshape(rows * length).view(rows, -1).sum(1) / length


class Words(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(10, 8)
        self.layer = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.layer(self.table(ids))
        return hidden.mean(1)


class Branch(torch.nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Tensor) -> Tensor:
        chosen: Tensor = torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))
        return chosen


def convolution() -> Any:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )


def export(place: Path, module: Any, args: tuple[Any, ...], *dynamic: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module.eval(), args, dynamic_shapes=dynamic or None)
        torch.export.save(program, place / "model.pt2")
    return place / "model.pt2"


CASES = {
    "convolution": (convolution, (torch.zeros(2, 3, 8, 8),), (ROWS,)),
    "recurrent": (Recurrent, (torch.zeros(2, 3, 4),), (ROWS,)),
    "parts": (Parts, (torch.zeros(2, 6),), (ROWS,)),
    "sized": (Sized, (torch.zeros(2, 5), torch.zeros(2, 5)), (BOTH, BOTH)),
    "words": (Words, (torch.zeros(2, 4, dtype=torch.int64),), (BOTH,)),
    "fixed": (Parts, (torch.zeros(2, 6),), ()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_program_answers_as_torch_loads_it(tmp_path: Path, case: str) -> None:
    from modelyard_runtime.engine.torch_engine import Placement  # noqa: PLC0415 - needs torch
    from modelyard_runtime.engine.torch_export import _load_slowly  # noqa: PLC0415
    from modelyard_runtime.engine.torch_program import read_program  # noqa: PLC0415

    torch.manual_seed(1)
    make, args, dynamic = CASES[case]
    path = export(tmp_path, make(), args, *dynamic)
    cpu = torch.device("cpu")
    (module, read), loaded = read_program(path, cpu), _load_slowly(path, Placement(cpu, 1))
    assert (read.inputs, read.outputs) == (loaded.inputs, loaded.outputs)
    assert (read.batched, read.max_rows) == (loaded.batched, loaded.max_rows)
    random = np.random.default_rng(0)
    for rows in (2, 1, 5) if dynamic else (2,):
        shapes = [[rows, *(7 if n == -1 else n for n in (s.shape or ())[1:])] for s in read.inputs]
        floats = args[0].dtype is torch.float32
        arrays = tuple(
            random.standard_normal(shape).astype(np.float32)
            if floats
            else random.integers(0, 10, shape)
            for shape in shapes
        )
        expected = loaded.predict(arrays)
        with torch.inference_mode():
            got = module(*map(torch.from_numpy, arrays))
        assert len(got) == len(expected)
        for mine, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-5, atol=1e-6)


def test_what_is_not_understood_is_left_to_torch(tmp_path: Path) -> None:
    from modelyard_runtime.engine.torch_archive import UnreadableProgramError  # noqa: PLC0415
    from modelyard_runtime.engine.torch_program import read_program  # noqa: PLC0415

    path = export(tmp_path, Branch(), (torch.zeros(2, 3),), ROWS)
    with pytest.raises(UnreadableProgramError, match="as_graph"):
        read_program(path, torch.device("cpu"))
    model = loaded_from(path).model
    for sign in (1.0, -1.0):
        (got,) = model.predict((np.full((1, 3), sign, np.float32),))
        assert got.tolist() == [[2 * sign] * 3]


def test_sizes_that_must_be_equal_are_checked(tmp_path: Path) -> None:
    path = export(tmp_path, Sized(), (torch.zeros(2, 5), torch.zeros(2, 5)), BOTH, BOTH)
    model = loaded_from(path).model
    x = np.ones((2, 4), np.float32)
    assert model.predict((x, x))[0].tolist() == [1, 1]
    # Without the check, torch would repeat the one column over all four.
    with pytest.raises(InvalidInputError, match=r"'mask': expected size 4 of axis 1.* got 1"):
        model.predict((x, np.ones((2, 1), np.float32)))


def test_bounds_of_an_inner_dimension_are_checked(tmp_path: Path) -> None:
    length = torch.export.Dim("length", min=4, max=9)
    path = export(
        tmp_path, Words(), (torch.zeros(2, 5, dtype=torch.int64),), {0: DYNAMIC, 1: length}
    )
    model = loaded_from(path).model
    assert model.predict((np.zeros((1, 9), np.int64),))[0].shape == (1, 8)
    for size in (3, 10):
        with pytest.raises(InvalidInputError, match=f"size 4 to 9 of axis 1, got {size}"):
            model.predict((np.zeros((1, size), np.int64),))


@pytest.mark.slow
def test_a_program_is_served_without_the_compiler(tmp_path: Path) -> None:
    path = export(tmp_path, torch.nn.Linear(4, 3), (torch.zeros(2, 4),), ROWS)
    code = (
        "import sys, numpy, torch; from pathlib import Path\n"
        "from modelyard_runtime.engine.torch_engine import Placement\n"
        "from modelyard_runtime.engine.torch_export import load_export\n"
        f"model = load_export(Path({str(path)!r}), Placement(torch.device('cpu'), 1))\n"
        "model.predict((numpy.zeros((1, 4), numpy.float32),))\n"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_a_program_goes_with_its_last_reference(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    module = torch.nn.Linear(4, 3).eval()
    program = torch.export.export(module, (torch.zeros(2, 4),), dynamic_shapes=(ROWS,))
    torch.export.save(program, tmp_path / "model.pt2")
    gc.disable()  # the collector may come hours later
    request.addfinalizer(gc.enable)
    model: Any = loaded_from(tmp_path).model
    weight = weakref.ref(next(model.module.parameters()))
    code = model.module.inner.forward.__code__.co_filename
    assert code in linecache.cache
    del model
    assert weight() is None
    assert code not in linecache.cache
