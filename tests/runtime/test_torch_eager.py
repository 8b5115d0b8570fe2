"""Plain ``nn.Module`` classes with a state dict or safetensors beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelyard_runtime.errors import InferenceError, Reason, StartupError
from modelyard_runtime.memory import is_out_of_memory
from modelyard_runtime.warming import warm
from testkit.runtime_serving import loaded_from

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
HANDLER = """
import torch

class Scorer(torch.nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, width)

    def forward(self, x, scale=None):
        y = self.linear(x)
        return y if scale is None else y * scale
"""
DECLARED = "inputs: [{name: x, dtype: FP32, shape: [-1, 4]}]\n"
WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
BIAS = np.array([1, 2, 3], dtype=np.float32)


def state(**more: Any) -> dict[str, Any]:
    return {"linear.weight": torch.tensor(WEIGHT), "linear.bias": torch.tensor(BIAS), **more}


def folder(
    place: Path, weights: dict[str, Any], *, handler: str = HANDLER, yaml: str = DECLARED
) -> Path:
    (place / "handler.py").write_text(handler)
    (place / "model.yaml").write_text(yaml)
    torch.save(weights, place / "model.pt")
    return place


def refusal(place: Path) -> StartupError:
    with pytest.raises(StartupError) as caught:
        loaded_from(place)
    return caught.value


def test_weights_and_a_class_are_a_batched_model(tmp_path: Path) -> None:
    loaded = loaded_from(folder(tmp_path, state()))
    model = loaded.model
    assert (loaded.artifact.format, model.format, model.batched) == (
        "TorchEager",
        "TorchEager",
        True,
    )
    assert [spec.as_document() for spec in model.outputs] == [
        {"name": "output", "datatype": "FP32", "shape": [-1]}
    ]
    x = np.random.default_rng(0).random((5, 4), np.float32)
    (got,) = model.predict((x,))
    np.testing.assert_allclose(got, x @ WEIGHT.T + BIAS, rtol=1e-6)
    warmth = warm(model, max_rows=8)
    assert warmth.batched
    assert warmth.outputs is not None


def test_safetensors_and_a_class_are_a_model(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    folder(tmp_path, state())
    (tmp_path / "model.pt").unlink()
    safetensors.save_file(state(), tmp_path / "model.safetensors")
    loaded = loaded_from(tmp_path)
    assert loaded.model.format == "Safetensors"
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(loaded.model.predict((x,))[0], x @ WEIGHT.T + BIAS, rtol=1e-6)


def test_tied_weights_are_kept_once_in_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    handler = """
import torch

class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 4, bias=False)
        self.second = torch.nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))
"""
    folder(tmp_path, {}, handler=handler)
    (tmp_path / "model.pt").unlink()
    safetensors.save_file({"first.weight": 2 * torch.eye(4)}, tmp_path / "model.safetensors")
    (got,) = loaded_from(tmp_path).model.predict((np.ones((1, 4), np.float32),))
    assert got.tolist() == [[4, 4, 4, 4]]


def test_a_checkpoint_of_a_training_loop_holds_the_weights_below(tmp_path: Path) -> None:
    folder(tmp_path, {"epoch": 3, "state_dict": state()})
    (got,) = loaded_from(tmp_path).model.predict((np.zeros((1, 4), np.float32),))
    assert got.tolist() == [[1, 2, 3]]


def test_missing_and_unexpected_weights_are_named(tmp_path: Path) -> None:
    weights = state(extra=torch.ones(1))
    del weights["linear.bias"]
    refused = refusal(folder(tmp_path, weights))
    assert refused.reason is Reason.INVALID_ARTIFACT
    assert "missing weights: linear.bias" in refused.message
    assert "unexpected weights: extra" in refused.message


def test_weights_of_another_size_are_named(tmp_path: Path) -> None:
    refused = refusal(folder(tmp_path, state() | {"linear.bias": torch.ones(7)}))
    assert refused.reason is Reason.INVALID_ARTIFACT
    assert "linear.bias" in refused.message


class Pickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('code ran')",))


def test_pickled_objects_are_refused_and_never_run(tmp_path: Path) -> None:
    refused = refusal(folder(tmp_path, {"linear.weight": Pickled()}))
    assert refused.reason is Reason.INVALID_ARTIFACT
    assert "pickled" in refused.message


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        ("class Model:\n    def predict(self, x): return x\n", "no torch.nn.Module"),
        (
            "import torch\nclass M(torch.nn.Module):\n    def forward(self, y): return y\n",
            "forward takes (y), declared are (x)",
        ),
        (
            "import torch\nclass M(torch.nn.Module):\n    def forward(self, x): return 3\n",
            "must return tensors",
        ),
    ],
)
def test_a_class_that_cannot_be_served(tmp_path: Path, handler: str, problem: str) -> None:
    # The weights are those that an empty module has.
    folder(tmp_path, {}, handler=handler)
    (tmp_path / "model.pt").unlink()
    (tmp_path / "model.yaml").write_text("format: TorchEager\n" + DECLARED)
    refused = refusal(tmp_path)
    assert refused.reason is Reason.INVALID_HANDLER
    assert problem in refused.message


def test_optional_inputs_are_given_where_they_are_declared(tmp_path: Path) -> None:
    yaml = """
inputs:
  - {name: x, dtype: FP32, shape: [-1, 4]}
  - {name: scale, dtype: FP32, shape: [-1, 1]}
"""
    model = loaded_from(folder(tmp_path, state(), yaml=yaml)).model
    x, scale = np.zeros((2, 4), np.float32), np.array([[1], [10]], np.float32)
    assert model.predict((x, scale))[0].tolist() == [[1, 2, 3], [10, 20, 30]]


def test_a_mapping_names_the_outputs(tmp_path: Path) -> None:
    handler = HANDLER.replace(
        "return y if scale is None else y * scale", "return {'logits': y, 'best': y.argmax(-1)}"
    )
    model = loaded_from(folder(tmp_path, state(), handler=handler)).model
    assert [(s.name, s.datatype) for s in model.outputs] == [("logits", "FP32"), ("best", "INT64")]
    logits, best = model.predict((np.zeros((1, 4), np.float32),))
    assert (logits.tolist(), best.tolist()) == ([[1, 2, 3]], [2])


def test_without_declarations_forward_says_what_it_takes(tmp_path: Path) -> None:
    model = loaded_from(folder(tmp_path, state(), yaml="")).model
    assert [(s.name, s.datatype, s.shape) for s in model.inputs] == [("x", "ANY", None)]
    assert not model.batched
    assert model.predict((np.zeros((1, 4), np.float32),))[0].tolist() == [[1, 2, 3]]


def test_an_answer_of_another_count_is_the_models_error(tmp_path: Path) -> None:
    handler = HANDLER.replace("return y if scale is None else y * scale", "return y, y")
    model = loaded_from(folder(tmp_path, state(), handler=handler, yaml="")).model
    with pytest.raises(InferenceError, match="returned 2 tensors, expected 1"):
        model.predict((np.zeros((1, 4), np.float32),))


def test_a_narrow_dtype_computes_narrow_and_answers_as_declared(tmp_path: Path) -> None:
    handler = HANDLER.replace("y = self.linear(x)", "y = self.linear(x); self.seen = y.dtype")
    loaded = loaded_from(
        folder(tmp_path, state(), handler=handler, yaml="dtype: BF16\n" + DECLARED)
    )
    (got,) = loaded.model.predict((np.ones((1, 4), np.float32),))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.ones((1, 4)) @ WEIGHT.T + BIAS, rtol=1e-2)
    assert loaded.model.module.inner.seen is torch.bfloat16  # type: ignore[attr-defined]


def test_an_allocation_that_fails_is_out_of_memory(tmp_path: Path) -> None:
    handler = HANDLER.replace("y = self.linear(x)", "y = torch.empty(1 << 50)")
    model = loaded_from(folder(tmp_path, state(), handler=handler, yaml="")).model
    with pytest.raises(RuntimeError) as caught:
        model.predict((np.zeros((1, 4), np.float32),))
    assert is_out_of_memory(caught.value)
