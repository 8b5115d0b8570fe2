"""``modelyard-runtime check``: the exit code and what a person reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from modelyard_runtime.__main__ import main
from testkit.runtime_models import linear_onnx, nan_onnx, text_onnx

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _logging_of_the_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's own would outlive the test, with a stream that is closed by then."""
    monkeypatch.setattr("modelyard_runtime.__main__.configure_logging", lambda *_, **__: None)


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def written(path: Path, document: Any) -> str:
    path.write_text(json.dumps(document))
    return str(path)


def request(row: list[float]) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": row}]}


def test_a_model_that_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(linear_onnx(tmp_path / "fraud.onnx"))]) == 0
    text = capsys.readouterr().out
    assert "✓ fraud" in text
    assert "ONNX on cpu" in text
    assert "x FP32 [-1, 4]" in text


def test_real_requests_are_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(linear_onnx(tmp_path / "fraud.onnx"))
    good = written(tmp_path / "good.json", [request([1, 2, 3, 4]), request([0, 0, 0, 1])])
    assert main(["check", model, "--requests", good]) == 0
    bad = written(tmp_path / "bad.json", {"inputs": []})
    assert main(["check", model, "--requests", bad]) == 1
    assert "✗ fraud: bad.json, request 1: missing input: 'x'" in capsys.readouterr().out


def test_golden_requests_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = {"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [9, 9, 9]}
    recording = {"request": request([1, 2, 3, 4]), "response": {"outputs": [output]}}
    golden = written(tmp_path / "golden.json", [recording])
    model = str(linear_onnx(tmp_path / "fraud.onnx"))
    assert main(["check", model, "--golden", golden]) == 1
    assert "VerificationFailed: golden.json, request 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"no model"), "InvalidArtifact"),
        (nan_onnx, "WarmupFailed"),
    ],
)
def test_a_model_that_cannot_be_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any, words: str
) -> None:
    make(tmp_path / "fraud.onnx")
    assert main(["check", str(tmp_path / "fraud.onnx")]) == 1
    assert words in capsys.readouterr().out


def test_one_broken_model_among_several_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "words", "broken"):
        (tmp_path / name / "1").mkdir(parents=True)
    linear_onnx(tmp_path / "good" / "1" / "m.onnx")
    text_onnx(tmp_path / "words" / "1" / "m.onnx")
    (tmp_path / "broken" / "1" / "m.onnx").write_bytes(b"no model")
    assert main(["check", "--models", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert "✓ good" in text
    assert "✓ words" in text
    assert "✗ broken: InvalidArtifact" in text


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert "modelyard-runtime check ./model.pt2 --golden verify.json" in capsys.readouterr().out
