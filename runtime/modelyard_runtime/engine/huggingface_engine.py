"""Hugging Face transformers from a local folder: classification and embeddings of text."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

# Everything must be in the folder: what is not there is not fetched.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
import transformers

from modelyard_runtime.engine.protocol import Model, TensorSpec
from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.tensors import as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Array, Arrays
    from modelyard_runtime.engine.torch_engine import Placement

_CLASSIFIER: Final = "ForSequenceClassification"
_ENCODERS: Final = ("Model", "ForMaskedLM", "ForPreTraining")
_DTYPES: Final = {"FP32": torch.float32, "FP16": torch.float16, "BF16": torch.bfloat16}
_MOST_TOKENS: Final = 1 << 20
"""Tokenizers without a limit say that it is 10³⁰."""


class HuggingFaceModel(Model):
    """A tokenizer and an encoder behind the engine protocol.

    Args:
        encode: Token ids and mask on the device → answers in host memory.
        tokenize: Texts → token ids and mask, padded.
        outputs: What ``encode`` gives.
        placement: Where it runs.
    """

    format = "HuggingFace"
    platform = "huggingface_transformers"

    def __init__(
        self,
        encode: Callable[[Mapping[str, Any]], Arrays],
        tokenize: Callable[[list[str]], Mapping[str, Any]],
        outputs: tuple[TensorSpec, ...],
        placement: Placement,
    ) -> None:
        self._encode = encode
        self._tokenize = tokenize
        self._device = placement.device
        self._threads = placement.threads
        self._bounded: set[int] = set()
        self.device = placement.device.type
        self.batched = True
        self.max_rows: int | None = None
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("text", "BYTES", (-1,)),)
        self.outputs = outputs

    def predict(self, inputs: Arrays) -> Arrays:
        """Answer texts.

        Args:
            inputs: One array ``(rows,)`` of UTF-8.

        Returns:
            ``label``, ``score`` and ``probabilities``, or ``embedding``.
        """
        thread = threading.get_ident()
        if thread not in self._bounded:
            torch.set_num_threads(self._threads)  # OpenMP keeps the bound per calling thread
            self._bounded.add(thread)
        texts = as_text(inputs[0]).tolist()
        with torch.inference_mode():
            tokens = self._tokenize(texts)
            return self._encode({name: each.to(self._device) for name, each in tokens.items()})


def load_huggingface(path: Path, placement: Placement, *, dtype: str) -> HuggingFaceModel:
    """Load a folder that ``save_pretrained`` wrote: safetensors and a tokenizer.

    Args:
        path: The folder.
        placement: Where to run.
        dtype: What to compute in; ``Auto``: as it was saved.

    Returns:
        A classifier, or for plain encoders an embedder.

    Raises:
        StartupError: ``InvalidArtifact``.

    References:
        transformers documentation, "Auto Classes" and "TextClassificationPipeline".
    """
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config, tokenizer, model = _read(path, dtype)
    except (StartupError, MemoryError):
        raise
    except Exception as error:
        raise _invalid(path, f"{type(error).__name__}: {str(error).strip()[:300]}") from error
    model = model.eval().to(placement.device)
    longest = min(
        tokenizer.model_max_length,
        getattr(config, "max_position_embeddings", _MOST_TOKENS),
        _MOST_TOKENS,
    )
    if tokenizer.pad_token is None:
        raise _invalid(path, "its tokenizer has no padding token")

    def tokenize(texts: list[str]) -> Mapping[str, Any]:
        tokens: Mapping[str, Any] = tokenizer(
            texts, padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return tokens

    if _classifies(config):
        return HuggingFaceModel(*_classifier(model, config, tokenize), placement)
    return HuggingFaceModel(*_embedder(path, model, config, tokenize), placement)


def _read(path: Path, dtype: str) -> tuple[Any, Any, Any]:
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(path, **options)
    architecture = (config.architectures or [""])[0]
    auto: Any = transformers.AutoModel
    if _classifies(config):
        auto = transformers.AutoModelForSequenceClassification
    elif not architecture.endswith(_ENCODERS):
        raise _invalid(path, f"{architecture or 'its architecture'} is not served")
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, **options)
    model = auto.from_pretrained(
        path, **options, use_safetensors=True, dtype=_DTYPES.get(dtype, "auto")
    )
    return config, tokenizer, model


def _classifies(config: Any) -> bool:
    return str((config.architectures or [""])[0]).endswith(_CLASSIFIER)


def _classifier(model: Any, config: Any, tokenize: Any) -> tuple[Any, Any, tuple[TensorSpec, ...]]:
    """Answer like the text classification pipeline of transformers."""
    names = tuple(str(config.id2label[at]) for at in range(config.num_labels))
    labels = np.array([name.encode() for name in names], dtype=object)
    independent = config.problem_type == "multi_label_classification" or config.num_labels == 1
    regression = config.problem_type == "regression"

    def encode(tokens: Mapping[str, Any]) -> Arrays:
        logits = model(**tokens).logits.float()
        if regression:
            scores = logits
        else:
            scores = logits.sigmoid() if independent else logits.softmax(dim=-1)
        table: Array = scores.cpu().numpy()
        best = table.argmax(axis=-1)
        return labels[best], np.take_along_axis(table, best[:, None], axis=-1)[:, 0], table

    outputs = (
        TensorSpec("label", "BYTES", (-1,)),
        TensorSpec("score", "FP32", (-1,)),
        TensorSpec("probabilities", "FP32", (-1, config.num_labels), labels=names),
    )
    return encode, tokenize, outputs


def _embedder(
    path: Path, model: Any, config: Any, tokenize: Any
) -> tuple[Any, Any, tuple[TensorSpec, ...]]:
    """Answer the mean of the tokens, or what a folder of sentence-transformers says."""
    first_token = bool(_json(path / "1_Pooling" / "config.json").get("pooling_mode_cls_token"))
    normalizes = any("Normalize" in str(step.get("type")) for step in _steps(path))

    def encode(tokens: Mapping[str, Any]) -> Arrays:
        hidden = model(**tokens).last_hidden_state.float()
        if first_token:
            pooled = hidden[:, 0]
        else:
            mask = tokens["attention_mask"].unsqueeze(-1).float()
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        if normalizes:
            pooled = torch.nn.functional.normalize(pooled, dim=-1)
        return (pooled.cpu().numpy(),)

    return encode, tokenize, (TensorSpec("embedding", "FP32", (-1, config.hidden_size)),)


def _steps(path: Path) -> list[Mapping[str, Any]]:
    steps = _json(path / "modules.json")
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


def _invalid(path: Path, problem: str) -> StartupError:
    return StartupError(
        Reason.INVALID_ARTIFACT,
        f"{path.name}: {problem}",
        hint="Save model and tokenizer with save_pretrained (safetensors); served are "
        "sequence classifiers and encoders.",
    )
