"""What of a model may run: its pickle, the Python file beside it, the library that it needs."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Final

import structlog

from modelyard_runtime.artifacts import digest_of
from modelyard_runtime.config import CONFIG_FILE
from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.handler import Handler

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modelyard_runtime.artifacts import Artifact
    from modelyard_runtime.config import ModelConfig
    from modelyard_runtime.settings import RuntimeSettings

_log = structlog.stdlib.get_logger(__name__)

_LIBRARIES: Final[Mapping[str, tuple[str, str]]] = {
    "TorchExport": ("torch", "runtime"),
    "TorchScript": ("torch", "runtime"),
    "TorchEager": ("torch", "runtime"),
    "Safetensors": ("safetensors", "runtime"),
    "HuggingFace": ("transformers", "runtime"),
    "ONNX": ("onnxruntime", "runtime-slim"),
    "Sklearn": ("sklearn", "runtime-slim"),
    "XGBoost": ("xgboost", "runtime-slim"),
    "LightGBM": ("lightgbm", "runtime-slim"),
    "MLflow": ("mlflow", "runtime-mlflow"),
}
"""Format → the library that it needs, and the extra that installs it."""
MADE_BY_CODE: Final = frozenset({"Custom", "TorchEager", "Safetensors"})
"""Formats that are code, or nothing without it."""
_TORCH: Final = frozenset(
    {"TorchExport", "TorchScript", "TorchEager", "Safetensors", "HuggingFace"}
)


def require_allowed(artifact: Artifact, config: ModelConfig) -> None:
    """Refuse an artifact that may not be loaded, before anything of it runs.

    Args:
        artifact: What is to be loaded.
        config: What is allowed, and which digest the artifact must have.

    Raises:
        StartupError: ``PickleNotAllowed``, ``DigestMismatch`` or ``FormatUnavailable``.
    """
    path = artifact.path
    if artifact.format == "Sklearn" and not config.allow_pickle:
        raise StartupError(
            Reason.PICKLE_NOT_ALLOWED,
            f"{path.name} is a pickle, which runs code while it loads",
            hint="Allow it for sources that you trust, or export the model to ONNX.",
        )
    if config.digest is not None and (found := digest_of(path)) != config.digest:
        raise StartupError(
            Reason.DIGEST_MISMATCH,
            f"{path.name} has {found}, {CONFIG_FILE} says {config.digest}",
            hint="The artifact was replaced, or the digest belongs to another version.",
        )
    torch_only = [key for key, stated in _torch_only(config).items() if stated]
    if torch_only and artifact.format not in _TORCH:
        raise StartupError(
            Reason.INVALID_SETTINGS,
            f"{CONFIG_FILE}: {torch_only[0]} is for torch models, {path.name} is {artifact.format}",
            hint="Leave the key out.",
        )
    library, extra = _LIBRARIES.get(artifact.format, ("numpy", ""))
    if importlib.util.find_spec(library) is None:
        raise StartupError(
            Reason.FORMAT_UNAVAILABLE,
            f"{artifact.format} needs {library}, which this image does not have",
            hint=f"Use an image with {library}, or pip install 'modelyard[{extra}]'.",
        )


def _torch_only(config: ModelConfig) -> dict[str, bool]:
    return {"dtype": config.dtype != "Auto", "compile": config.compile is not None}


def entry_file(place: Path, config: ModelConfig) -> Path | None:
    """Find the file of ``entry`` beside ``model.yaml``.

    Args:
        place: The model's folder.
        config: Its configuration.

    Returns:
        The file; None when none is named, or it is not there.
    """
    if config.entry is None:
        return None
    path = place / config.entry.partition(":")[0]
    return path if path.is_file() else None


def allowed_handler(
    artifact: Artifact, config: ModelConfig, settings: RuntimeSettings
) -> Handler | None:
    """Import the user's file, if there is one that is meant to run and may.

    It may when it was given by itself, when the model was named on the command line, when pickles are
    allowed, or when the artifact's digest covers it.

    Args:
        artifact: With the file that was found.
        config: The model's configuration.
        settings: The environment.

    Returns:
        The handler; None when there is none.

    Raises:
        StartupError: ``InvalidHandler`` or ``PickleNotAllowed``.
    """
    path = _meant(artifact, config)
    if path is None:
        return None
    named = path == settings.handler_file or settings.model_path is not None
    covered = config.allow_pickle and path.is_relative_to(artifact.path)
    if not (named or covered or settings.allow_pickle):
        raise StartupError(
            Reason.PICKLE_NOT_ALLOWED,
            f"{path.name} lies beside the model and would run as code",
            hint="Allow it for sources that you trust (allowPickle), or give it as handlerRef.",
        )
    return import_handler(artifact, config)


def import_handler(artifact: Artifact, config: ModelConfig) -> Handler | None:
    """Import the user's file, if there is one that is meant to run, without asking whether it may.

    Args:
        artifact: With the file that was found.
        config: The model's configuration.

    Returns:
        The handler; None when there is none.

    Raises:
        StartupError: ``InvalidHandler``.
    """
    path = _meant(artifact, config)
    if path is None:
        return None
    _log.info("running the handler's code", file=str(path))
    return Handler(path, (config.entry or "").partition(":")[2] or None)


def _meant(artifact: Artifact, config: ModelConfig) -> Path | None:
    """Tell whether the file that was found is one that the configuration speaks of."""
    path = artifact.handler
    file = (config.entry or "").partition(":")[0]
    if path is None or (file and path.name != file):
        if file:
            raise StartupError(
                Reason.INVALID_HANDLER,
                f"entry {config.entry!r}: there is no such file beside {CONFIG_FILE}",
            )
        if config.kwargs:
            raise StartupError(
                Reason.INVALID_HANDLER, "kwargs are given, and there is no handler.py to take them"
            )
        return None
    if path.name == "model.py" and not file and artifact.format not in MADE_BY_CODE:
        return None  # what the model was trained with lies beside many a model
    return path
