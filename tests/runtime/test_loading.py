"""Which file is the model, which format it has, and every reason why it cannot be served."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.loading import find_artifact, load_model
from modelyard_runtime.memory import is_out_of_memory
from modelyard_runtime.warming import warm
from testkit import runtime_models as models

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path, **options: Any) -> Any:
    artifact = find_artifact(path, model_format=options.pop("model_format", "Auto"))
    values = {"device": "Auto", "threads": 1, "allow_pickle": True, **options}
    return load_model(artifact, **values)


def reason_of(path: Path, **options: Any) -> Reason:
    with pytest.raises(StartupError) as caught:
        load(path, **options)
    assert caught.value.message
    return caught.value.reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.pt2", "TorchExport"),
        ("model.pt", "TorchScript"),
        ("m.PTH", "TorchScript"),
        ("model.onnx", "ONNX"),
        ("model.joblib", "Sklearn"),
        ("model.pkl", "Sklearn"),
    ],
)
def test_the_format_is_told_from_the_only_model_file(
    tmp_path: Path, name: str, expected: str
) -> None:
    folder = tmp_path / "3"
    folder.mkdir()
    for other in ("README.md", "labels.txt", ".hidden.onnx", name):
        (folder / other).touch()
    (tmp_path / "2").mkdir()
    found = find_artifact(tmp_path, model_format="Auto")
    assert (found.path.name, found.version, found.format) == (name, "3", expected)


def test_a_set_format_picks_among_several_files(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.pkl"):
        (tmp_path / name).touch()
    assert find_artifact(tmp_path, model_format="ONNX").path.name == "a.onnx"
    assert reason_of(tmp_path) == Reason.UNKNOWN_FORMAT


def test_a_set_format_takes_an_only_file_at_its_word(tmp_path: Path) -> None:
    models.linear_onnx(tmp_path / "weights.bin")
    assert load(tmp_path, model_format="ONNX").format == "ONNX"


@pytest.mark.parametrize("name", [None, "notes.txt"])
def test_no_model_file(tmp_path: Path, name: str | None) -> None:
    if name:
        (tmp_path / name).touch()
    assert reason_of(tmp_path) == Reason.UNKNOWN_FORMAT
    assert reason_of(tmp_path / "missing") == Reason.UNKNOWN_FORMAT


@pytest.mark.parametrize("name", ["m.onnx", "m.joblib"])
def test_rubbish_is_an_invalid_artifact(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"rubbish")
    assert reason_of(tmp_path) == Reason.INVALID_ARTIFACT


@pytest.mark.torch
@pytest.mark.parametrize("name", ["m.pt2", "m.pt"])
def test_rubbish_for_torch(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"rubbish")
    assert reason_of(tmp_path) == Reason.INVALID_ARTIFACT


def test_saved_weights_are_told_from_torchscript(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"")
    with pytest.raises(StartupError, match="looks like saved weights"):
        load(tmp_path)


def test_pickles_need_the_opt_in(tmp_path: Path) -> None:
    models.classifier_joblib(tmp_path / "m.joblib")
    assert reason_of(tmp_path, allow_pickle=False) == Reason.PICKLE_NOT_ALLOWED
    assert load(tmp_path).format == "Sklearn"


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.pt2").touch()
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == "torch" else find_spec(n)
    )
    assert reason_of(tmp_path) == Reason.FORMAT_UNAVAILABLE


@pytest.mark.parametrize("name", ["m.onnx", "m.joblib"])
def test_cuda_where_there_is_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (models.linear_onnx if name.endswith("onnx") else models.classifier_joblib)(path)
    assert reason_of(tmp_path, device="CUDA") == Reason.DEVICE_UNAVAILABLE


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("Failed to allocate memory for requested buffer"), True),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_allocators_are_understood(error: Exception, expected: bool) -> None:  # noqa: FBT001
    assert is_out_of_memory(error) is expected


def test_sklearn_predicts_labels_and_probabilities(tmp_path: Path) -> None:
    model = load(models.classifier_joblib(tmp_path / "m.joblib"))
    assert [spec.as_document() for spec in model.inputs] == [
        {"name": "input", "datatype": "FP64", "shape": [-1, 4]}
    ]
    assert [(spec.name, spec.datatype, spec.shape) for spec in model.outputs] == [
        ("predict", "INT64", (-1,)),
        ("predict_proba", "FP64", (-1, 3)),
    ]
    labels, probabilities = model.predict((np.array([[-3.0, -3, 0, 0], [3, 3, 0, 0]]),))
    assert labels.tolist() == [0, 2]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_sklearn_on_strings(tmp_path: Path) -> None:
    import joblib  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import OneHotEncoder  # noqa: PLC0415

    table = np.array([["a", "x"], ["b", "y"]] * 10, dtype=object)
    steps = OneHotEncoder(), LogisticRegression()
    pipeline = make_pipeline(*steps).fit(table, ["no", "yes"] * 10)
    joblib.dump(pipeline, tmp_path / "m.joblib")
    model = load(tmp_path)
    assert (model.inputs[0].datatype, model.inputs[0].shape) == ("BYTES", (-1, 2))
    assert model.outputs[0].datatype == "BYTES"
    assert model.predict((table[:2],))[0].tolist() == ["no", "yes"]


def test_an_estimator_that_cannot_predict(tmp_path: Path) -> None:
    import joblib  # noqa: PLC0415

    joblib.dump({"not": "an estimator"}, tmp_path / "m.joblib")
    assert reason_of(tmp_path) == Reason.INVALID_ARTIFACT


def test_onnx_shapes_decide_about_batches(tmp_path: Path) -> None:
    assert load(models.linear_onnx(tmp_path / "a.onnx")).batched
    fixed = load(models.identity_onnx(tmp_path / "b.onnx", "FP32", [2, 3]))
    assert not fixed.batched
    assert fixed.inputs[0].shape == (2, 3)
    scalar = load(models.identity_onnx(tmp_path / "c.onnx", "FP32", []))
    assert not scalar.batched


def test_rows_that_depend_on_their_neighbours_are_found_out(tmp_path: Path) -> None:
    model = load(models.cumulative_onnx(tmp_path / "m.onnx"))
    assert model.batched  # as far as its shapes tell
    assert not warm(model, max_rows=8).batched
    assert warm(load(models.linear_onnx(tmp_path / "n.onnx")), max_rows=8).batched


def test_a_model_that_refuses_its_own_shapes_fails_to_warm(tmp_path: Path) -> None:
    model = load(models.linear_onnx(tmp_path / "m.onnx"))

    def refuse(_: object) -> None:
        raise ValueError("no")

    model.predict = refuse
    with pytest.raises(StartupError) as caught:
        warm(model, max_rows=8)
    assert caught.value.reason == Reason.WARMUP_FAILED


def scaled_onnx(path: Path, factor: float) -> Path:
    """``y = log(x) * 0 + factor`` for x of shape (batch, 2): what is made up first is not finite."""
    return models.save_onnx(
        path,
        [
            helper.make_node("Abs", ["x"], ["positive"]),
            helper.make_node("Log", ["positive"], ["log"]),
            helper.make_node("Mul", ["log", "factor"], ["y"]),
        ],
        [models.value("x", "FP32", ["batch", 2])],
        [models.value("y", "FP32", ["batch", 2])],
        [numpy_helper.from_array(np.array(factor, np.float32), "factor")],
    )


def test_a_model_that_answers_nan_is_not_warm(tmp_path: Path) -> None:
    model = load(scaled_onnx(tmp_path / "m.onnx", np.nan))
    with pytest.raises(StartupError, match=r"NaN or infinity in output 'y'") as caught:
        warm(model, max_rows=8)
    assert caught.value.reason == Reason.WARMUP_FAILED


def test_zeros_may_have_no_finite_answer(tmp_path: Path) -> None:
    model = load(scaled_onnx(tmp_path / "m.onnx", 2))
    warmth = warm(model, max_rows=8)
    assert warmth.batched
    assert warmth.outputs is not None
    assert np.isfinite(warmth.outputs[0]).all()


def test_every_bucket_is_run_and_must_be_finite(tmp_path: Path) -> None:
    model = load(models.linear_onnx(tmp_path / "m.onnx"))
    predict, seen = model.predict, []

    def spied(inputs: Any) -> Any:
        seen.append(len(inputs[0]))
        outputs = predict(inputs)
        return (outputs[0] * np.float32(np.nan),) if broken == len(inputs[0]) else outputs

    model.predict, broken = spied, 0
    warm(model, max_rows=8, buckets=(2, 4, 16), iterations=2)
    assert [seen.count(rows) for rows in (2, 4)] == [2, 2]
    assert seen.count(1) >= 2
    assert seen.count(8) >= 2
    assert 16 not in seen
    broken = 4
    with pytest.raises(StartupError, match="4 rows gives NaN"):
        warm(model, max_rows=8, buckets=(2, 4, 16))


@pytest.mark.slow
def test_onnx_and_sklearn_start_without_torch(tmp_path: Path) -> None:
    models.linear_onnx(tmp_path / "a.onnx")
    models.classifier_joblib(tmp_path / "b.joblib")
    program = (
        "import sys; from pathlib import Path\n"
        "import modelyard_runtime.server\n"
        "from modelyard_runtime.loading import *\n"
        "for name in ('a.onnx', 'b.joblib'):\n"
        "    found = find_artifact(Path(name), model_format='Auto')\n"
        "    load_model(found, device='Auto', threads=1, allow_pickle=True)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
