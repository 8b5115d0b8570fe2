"""One small model of each format, a request that it answers, and one that makes it fail."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from onnx import helper, numpy_helper

from testkit import runtime_models as models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Table = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A model, and what to ask it.

    ``rows`` are as many rows of one input as requests will be sent; ``poison`` is a row that the model
    itself refuses, or None where its library takes everything of the right shape.
    """

    format: str
    input: str
    datatype: str
    rows: Table
    poison: Table | None
    output: str
    expected: Table
    settings: dict[str, Any] = field(default_factory=dict)


ROWS = 16
NUMBERS = np.random.default_rng(7).normal(size=(ROWS, 4)).astype(np.float32)
WORDS = np.array([[b"ab"[i % 2 : i % 2 + 1]] for i in range(ROWS)], dtype=object)
INDEX = np.arange(ROWS, dtype=np.int64).reshape(ROWS, 1) % 10
TABLE = np.arange(20, dtype=np.float32).reshape(10, 2)
BEYOND = np.array([[99]], dtype=np.int64)
NO_TEXT = np.array([b"\xff\xfe"], dtype=object)
LABELS = (NUMBERS[:, 0] > 0).astype(int) + (NUMBERS[:, 1] > 0).astype(int)


def _lookup(format_: str, output: str) -> Case:
    return Case(
        format_, "i", "INT64", INDEX, BEYOND, output, TABLE[INDEX[:, 0]].reshape(ROWS, 1, 2)
    )


def sklearn(folder: Path) -> Case:
    """An encoder that knows two words."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import OneHotEncoder  # noqa: PLC0415

    words = np.array([["a"], ["b"]] * 10, dtype=object)
    pipeline = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(words, [0, 1] * 10)
    joblib.dump(pipeline, folder / "model.joblib")
    poison = np.array([[b"unknown"]], dtype=object)
    expected = (WORDS[:, 0] == b"b").astype(int)
    return Case(
        "Sklearn", "input", "BYTES", WORDS, poison, "predict", expected, {"allow_pickle": True}
    )


def xgboost(folder: Path, name: str = "model.ubj") -> Case:
    """Three classes; no value makes it fail."""
    import xgboost as library  # noqa: PLC0415 - slow to import

    options = {"objective": "multi:softmax", "num_class": 3, "nthread": 1}
    booster = library.train(options, library.DMatrix(NUMBERS, label=LABELS), 5)
    booster.save_model(folder / name)
    expected = booster.predict(library.DMatrix(NUMBERS)).astype(np.int64)
    return Case("XGBoost", "input", "FP32", NUMBERS, None, "predict", expected)


def xgboost_json(folder: Path) -> Case:
    """The same as JSON."""
    return xgboost(folder, "model.json")


def lightgbm(folder: Path) -> Case:
    """A regression; no value makes it fail."""
    import lightgbm as library  # noqa: PLC0415 - slow to import

    options = {"objective": "regression", "min_data_in_leaf": 1, "num_threads": 1, "verbose": -1}
    booster = library.train(options, library.Dataset(NUMBERS, label=NUMBERS[:, 0]), 5)
    booster.save_model(folder / "model.txt")
    expected = np.asarray(booster.predict(NUMBERS.astype(np.float64)))
    return Case("LightGBM", "input", "FP64", NUMBERS.astype(np.float64), None, "predict", expected)


def onnx(folder: Path) -> Case:
    """A table of ten rows; an index beyond is refused."""
    models.save_onnx(
        folder / "model.onnx",
        [helper.make_node("Gather", ["table", "i"], ["y"])],
        [models.value("i", "INT64", ["batch", 1])],
        [models.value("y", "FP32", ["batch", 1, 2])],
        [numpy_helper.from_array(TABLE, "table")],
    )
    return _lookup("ONNX", "y")


def onnx_strings(folder: Path) -> Case:
    """Text comes back as it went; bytes that are no text are refused."""
    models.identity_onnx(folder / "model.onnx", "BYTES", ["batch"])
    words = WORDS[:, 0]
    return Case("ONNX", "x", "BYTES", words, NO_TEXT, "y", words)


def mlflow(folder: Path) -> Case:
    """A function in Python that takes no negative numbers."""
    library = importlib.import_module("mlflow.pyfunc")
    signatures = importlib.import_module("mlflow.models")

    class Root(library.PythonModel):  # type: ignore[misc, name-defined]
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
            if (model_input < 0).any():
                raise ValueError("negative")
            return np.sqrt(model_input)

    rows = np.abs(NUMBERS.astype(np.float64))
    library.save_model(
        str(folder / "model"),
        python_model=Root(),
        signature=signatures.infer_signature(rows, np.sqrt(rows)),
        pip_requirements=[],  # finding them out takes half a minute
    )
    return Case(
        "MLflow", "input", "FP64", rows, -rows[:1], "output", np.sqrt(rows), {"allow_pickle": True}
    )


def huggingface(folder: Path, *, classes: bool = True) -> Case:
    """A tiny encoder with random weights; bytes that are no text are refused."""
    torch = importlib.import_module("torch")
    library = importlib.import_module("transformers")

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = library.BertTokenizerFast(vocab_file=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = library.BertConfig(
        vocab_size=len(words), intermediate_size=8, max_position_embeddings=16, **sizes
    )
    kind = library.BertForSequenceClassification if classes else library.BertModel
    model = kind(config).eval()
    model.save_pretrained(folder)
    texts = [str(word[0], "ascii") * (1 + i % 3) for i, word in enumerate(WORDS)]
    texts = [" ".join(text) for text in texts]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        answer = model(**tokens)
        if classes:
            expected = answer.logits.softmax(dim=-1).numpy()
        else:
            mask = tokens["attention_mask"].unsqueeze(-1)
            expected = ((answer.last_hidden_state * mask).sum(1) / mask.sum(1)).numpy()
    rows = np.array([text.encode() for text in texts], dtype=object)
    output = "probabilities" if classes else "embedding"
    return Case("HuggingFace", "text", "BYTES", rows, NO_TEXT, output, expected)


def huggingface_embeddings(folder: Path) -> Case:
    """The mean of the tokens of a text."""
    return huggingface(folder, classes=False)


def custom(folder: Path) -> Case:
    """A function in ``handler.py``; it takes no negative numbers."""
    (folder / "handler.py").write_text(
        "from modelyard_runtime import InvalidInput\n"
        "def predict(x):\n"
        "    if (x < 0).any():\n"
        "        raise InvalidInput('x is negative')\n"
        "    return {'y': x * 2}\n"
    )
    (folder / "model.yaml").write_text("inputs: [{name: x, dtype: FP32, shape: [-1, 4]}]\n")
    rows = np.abs(NUMBERS)
    return Case("Custom", "x", "FP32", rows, -rows[:1], "y", rows * 2)


def _embedding() -> Any:
    torch = importlib.import_module("torch")
    return torch.nn.Embedding.from_pretrained(torch.from_numpy(TABLE))


def torchscript(folder: Path) -> Case:
    """A scripted table of ten rows, declared in ``model.yaml``."""
    torch = importlib.import_module("torch")
    torch.jit.script(_embedding()).save(str(folder / "model.pt"))
    (folder / "model.yaml").write_text("inputs: [{name: i, dtype: INT64, shape: [-1, 1]}]\n")
    return _lookup("TorchScript", "output")


def torch_export(folder: Path) -> Case:
    """An exported table of ten rows."""
    torch = importlib.import_module("torch")

    class Lookup(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.table = _embedding()

        def forward(self, i: Any) -> Any:
            return {"y": self.table(i)}

    rows = torch.export.Dim("rows", min=1, max=64)
    example = (torch.zeros(2, 1, dtype=torch.long),)
    program = torch.export.export(Lookup().eval(), example, dynamic_shapes={"i": {0: rows}})
    torch.export.save(program, folder / "model.pt2")
    return _lookup("TorchExport", "y")


def torch_eager(folder: Path, name: str = "model.pt") -> Case:
    """The weights of a table of ten rows, and its class in ``handler.py``."""
    torch = importlib.import_module("torch")
    weights = {"table.weight": torch.from_numpy(TABLE)}
    if name.endswith(".pt"):
        torch.save(weights, folder / name)
    else:
        importlib.import_module("safetensors.torch").save_file(weights, folder / name)
    (folder / "handler.py").write_text(
        "import torch\n"
        "class Lookup(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.table = torch.nn.Embedding(10, 2)\n"
        "    def forward(self, i):\n"
        "        return {'y': self.table(i)}\n"
    )
    (folder / "model.yaml").write_text(
        "inputs: [{name: i, dtype: INT64, shape: [-1, 1]}]\n"
        "outputs: [{name: y, dtype: FP32, shape: [-1, 1, 2]}]\n"
    )
    settings = {"allow_pickle": True}
    case = _lookup("TorchEager" if name.endswith(".pt") else "Safetensors", "y")
    return Case(**{**vars(case), "settings": settings})


def safetensors(folder: Path) -> Case:
    """The same weights as safetensors."""
    return torch_eager(folder, "model.safetensors")


PLAIN: tuple[Callable[[Path], Case], ...] = (
    sklearn,
    xgboost,
    xgboost_json,
    lightgbm,
    onnx,
    onnx_strings,
    custom,
)
TORCH: tuple[Callable[[Path], Case], ...] = (torchscript, torch_eager, safetensors)
SLOW: tuple[Callable[[Path], Case], ...] = (torch_export, huggingface, huggingface_embeddings)
