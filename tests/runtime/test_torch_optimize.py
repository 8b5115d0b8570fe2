"""``optimize: Auto``: only what answers alike is chosen, and only if it is faster.

The clock is made up: what is measured here is which answers count, not how fast this machine is.
"""

from __future__ import annotations

import gc
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelyard_runtime.resident import resident_bytes
from modelyard_runtime.warming import warm
from testkit import runtime_models as models
from testkit.runtime_serving import loaded_from, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
RELOADS = 12
INPUTS = "inputs: [{{name: x, dtype: FP32, shape: {shape}}}]\n"
CONVOLUTION = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)

    def forward(self, x):
        return torch.relu(self.norm(self.first(x))).mean((2, 3))
"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], float]], None]:
    """Make up how long each call takes."""
    from modelyard_runtime.engine import torch_optimize  # noqa: PLC0415 - needs torch

    def set_clock(seconds: Callable[[Any], float]) -> None:
        for name in ("_seconds", "_once"):
            monkeypatch.setattr(torch_optimize, name, lambda call, _sample: seconds(call))

    return set_clock


def scripted(place: Path) -> Path:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module.eval()).save(place / "model.pt")
    (place / "model.yaml").write_text(INPUTS.format(shape=[-1, 4]))
    return place


def eager(place: Path, handler: str, shape: list[int]) -> Path:
    (place / "handler.py").write_text(handler)
    (place / "model.yaml").write_text(f"format: TorchEager\n{INPUTS.format(shape=shape)}")
    return place


def frozen_is_faster(call: Any) -> float:
    inner = getattr(call, "inner", call)
    return 1.0 if "forward" in dir(inner) and has_weights(inner) else 0.5


def has_weights(module: Any) -> bool:
    return any(True for _ in module.parameters())


def answers(model: Any, shape: tuple[int, ...]) -> list[Any]:
    random = np.random.default_rng(7)
    return [
        model.predict((random.standard_normal((rows, *shape)).astype(np.float32),))[0]
        for rows in (1, 2, 5, 8)
    ]


def test_a_frozen_script_is_chosen_and_answers_alike(tmp_path: Path, clock: Any) -> None:
    clock(frozen_is_faster)
    model = loaded_from(scripted(tmp_path)).model
    before = answers(model, (4,))
    warmth = warm(model, max_rows=8, optimize="Auto")
    assert warmth.batched
    assert (model.optimization.chosen, model.optimization.gain) == ("freeze", 2.0)
    for old, new in zip(before, answers(model, (4,)), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5)


def test_off_tries_nothing(tmp_path: Path, clock: Any) -> None:
    clock(frozen_is_faster)
    model = loaded_from(scripted(tmp_path)).model
    warm(model, max_rows=8, optimize="Off")
    assert (model.optimization.chosen, model.optimization.gain) == ("none", 1.0)


def test_what_is_not_faster_is_not_chosen(tmp_path: Path, clock: Any) -> None:
    clock(lambda _call: 1.0)
    model = loaded_from(scripted(tmp_path)).model
    warm(model, max_rows=8, optimize="Auto")
    assert model.optimization.chosen == "none"


def test_convolutions_are_laid_out_channels_last(tmp_path: Path, clock: Any) -> None:
    def laid_out(call: Any) -> float:
        weights = [each for each in call.parameters() if each.ndim == 4]
        layout = torch.channels_last
        return 0.5 if weights and weights[0].is_contiguous(memory_format=layout) else 1.0

    clock(laid_out)
    model = loaded_from(eager(tmp_path, CONVOLUTION, [-1, 3, 8, 8])).model
    before = answers(model, (3, 8, 8))
    warm(model, max_rows=8, optimize="Auto")
    assert (model.optimization.chosen, model.optimization.gain) == ("channels_last", 2.0)
    for old, new in zip(before, answers(model, (3, 8, 8)), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-6)


def test_a_trace_of_a_plain_module_is_frozen(tmp_path: Path, clock: Any) -> None:
    clock(frozen_is_faster)
    model = loaded_from(eager(tmp_path, CONVOLUTION, [-1, 3, 8, 8])).model
    before = answers(model, (3, 8, 8))
    warm(model, max_rows=8, optimize="Auto")
    assert "freeze" in model.optimization.chosen
    for old, new in zip(before, answers(model, (3, 8, 8)), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-6)


def test_a_module_that_calls_a_script_is_frozen(tmp_path: Path, clock: Any) -> None:
    handler = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.then = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()))

    def forward(self, x):
        return self.then(self.first(x))
"""
    clock(frozen_is_faster)
    model = loaded_from(eager(tmp_path, handler, [-1, 4])).model
    before = answers(model, (4,))
    warm(model, max_rows=8, optimize="Auto")
    assert model.optimization.chosen == "freeze"
    for old, new in zip(before, answers(model, (4,)), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5)


@pytest.mark.slow
def test_what_was_made_of_a_model_goes_with_it(tmp_path: Path, clock: Any) -> None:
    handler = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1024, 1024)

    def forward(self, x):
        return self.linear(x)
"""
    clock(frozen_is_faster)
    place = eager(tmp_path, handler, [-1, 1024])
    resident = []
    for _ in range(RELOADS):
        model = loaded_from(place).model
        warm(model, max_rows=8, optimize="Auto")
        assert model.optimization.chosen == "freeze"
        model.close()
        del model
        gc.collect()
        resident.append(resident_bytes(os.getpid()))
    weights = 4 * 1024 * 1024
    first = RELOADS // 3
    # Each kept two of them once; the allocator keeps some whatever becomes of the models.
    assert resident[-1] - resident[first] < (RELOADS - first) * weights // 2


@pytest.mark.parametrize(
    "body",
    [
        "return self.linear(x) * int(x.shape[0])",  # the trace would hold one size for all
        "return self.linear(x) if x.sum() > 0 else -self.linear(x)",  # and one branch
        "return self.linear(x) * len(x.tolist())",
        "self.calls = getattr(self, 'calls', 0) + 1; return self.linear(x) + self.calls",
        "return self.linear(x) + torch.rand(())",
    ],
)
def test_what_a_trace_cannot_hold_runs_as_it_is(tmp_path: Path, clock: Any, body: str) -> None:
    clock(frozen_is_faster)
    handler = f"""
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x):
        {body}
"""
    model = loaded_from(eager(tmp_path, handler, [-1, 4])).model
    warm(model, max_rows=8, optimize="Auto")
    assert model.optimization.chosen == "none"


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        # Its graph makes the first state of as many rows as there are: a trace of it would write
        # beyond the state's end for every other batch.
        ("LSTM", (3, 4)),
        ("GRU", (3, 4)),
    ],
)
def test_a_trace_that_holds_a_size_is_never_run(
    tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch, make: str, shape: tuple[int, ...]
) -> None:
    class Recurrent(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = getattr(torch.nn, make)(4, 5, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.layer(x)[0]

    frozen: list[Any] = []
    monkeypatch.setattr(torch.jit, "freeze", frozen.append)
    clock(frozen_is_faster)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = ({0: torch.export.Dim.DYNAMIC},)
        module = Recurrent().eval()
        program = torch.export.export(module, (torch.zeros(2, *shape),), dynamic_shapes=rows)
        torch.export.save(program, tmp_path / "model.pt2")
    model = loaded_from(tmp_path).model
    warm(model, max_rows=8, optimize="Auto")
    assert not frozen
    assert model.optimization.chosen == "none"


def test_a_variant_that_raises_is_out(
    tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_module: Any) -> Any:
        raise RuntimeError("mutates an attribute")

    clock(frozen_is_faster)
    monkeypatch.setattr(torch.jit, "freeze", refuses)
    model = loaded_from(scripted(tmp_path)).model
    before = answers(model, (4,))
    warm(model, max_rows=8, optimize="Auto")
    assert model.optimization.chosen == "none"
    for old, new in zip(before, answers(model, (4,)), strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_variant_that_answers_otherwise_is_out(
    tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.jit.freeze

    class Off:
        def __init__(self, module: Any) -> None:
            self.frozen = real(module)

        def __call__(self, x: Any) -> Any:
            return self.frozen(x) * 1.01

    clock(lambda call: 0.5 if isinstance(getattr(call, "inner", None), Off) else 1.0)
    monkeypatch.setattr(torch.jit, "freeze", Off)
    monkeypatch.setattr(torch.jit, "optimize_for_inference", lambda module: module)
    model = loaded_from(scripted(tmp_path)).model
    warm(model, max_rows=8, optimize="Auto")
    assert model.optimization.chosen == "none"


def test_compile_runs_when_it_is_asked_for(
    tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def compile_(call: Any, **options: Any) -> Any:
        asked.update(options)
        return call

    clock(lambda call: 1.0 if hasattr(call, "inner") else 0.25)
    monkeypatch.setattr(torch, "compile", compile_)
    scripted(tmp_path)
    text = (tmp_path / "model.yaml").read_text()
    (tmp_path / "model.yaml").write_text(text + "compile: {mode: max-autotune, dynamic: true}\n")
    model = loaded_from(tmp_path).model
    warm(model, max_rows=8, optimize="Off")
    assert (model.optimization.chosen, model.optimization.gain) == ("compile", 4.0)
    assert asked == {"mode": "max-autotune", "dynamic": True, "fullgraph": False}


@pytest.mark.slow
def test_every_one_of_many_models_is_compiled(
    tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, {width})

    def forward(self, x):
        return self.linear(x)
"""
    compiled: list[str] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        compiled.append(str(graph.graph))
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **_: real(call, backend=backend))
    clock(lambda _call: 1.0)
    for width in range(1, 11):  # torch compiles eight for one piece of code
        place = tmp_path / str(width)
        place.mkdir()
        eager(place, handler.format(width=width), [-1, 4])
        with (place / "model.yaml").open("a") as file:
            file.write("compile: {}\n")
        model: Any = loaded_from(place).model
        before = len(compiled)
        warm(model, max_rows=8)
        assert len(compiled) > before
        assert model.optimization.chosen == "compile"


def test_a_model_that_does_not_compile_runs_as_it_is(
    tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_(call: Any, **_options: Any) -> Any:
        raise RuntimeError(f"no compiler for {type(call).__name__}")

    clock(frozen_is_faster)
    monkeypatch.setattr(torch, "compile", compile_)
    scripted(tmp_path)
    text = (tmp_path / "model.yaml").read_text()
    (tmp_path / "model.yaml").write_text(text + "compile: {}\n")
    model = loaded_from(tmp_path).model
    warm(model, max_rows=8, optimize="Auto")
    assert model.optimization.chosen == "none"
    assert len(answers(model, (4,))) == 4


async def test_a_served_model_is_optimised_and_the_status_says_how(
    tmp_path: Path, clock: Any
) -> None:
    clock(frozen_is_faster)
    async with serving(scripted(tmp_path)) as (client, service):
        (status,) = service.status()["models"]
        assert status["optimizations"] == {"chosen": "freeze", "gain": 2.0}
        body = models.request("x", "FP32", [1, 4], [1.0] * 4)
        answer = await client.post("/v2/models/m/infer", json=body)
        assert answer.status_code == 200
