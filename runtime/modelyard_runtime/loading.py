"""Local files → a model in memory: find the artifact, tell its format, call its loader.

Each format's library is imported only when a model needs it, so an image without torch serves ONNX
and scikit-learn, and starts as fast as they allow.
"""

from __future__ import annotations

import importlib.util
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from modelyard_runtime.compute import bound_thread_pools
from modelyard_runtime.errors import Reason, StartupError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Model

_log = structlog.stdlib.get_logger(__name__)

_SUFFIXES: Final[Mapping[str, str]] = {
    ".pt2": "TorchExport",
    ".pt": "TorchScript",
    ".pth": "TorchScript",
    ".ts": "TorchScript",
    ".onnx": "ONNX",
    ".joblib": "Sklearn",
    ".pkl": "Sklearn",
    ".pickle": "Sklearn",
}
_LIBRARIES: Final[Mapping[str, str]] = {
    "TorchExport": "torch",
    "TorchScript": "torch",
    "ONNX": "onnxruntime",
    "Sklearn": "sklearn",
}
_PICKLED: Final = frozenset({"Sklearn"})


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model on disk.

    Attributes:
        path: Its main file.
        version: Its version in the repository.
        format: A word of ``MODELYARD_MODEL_FORMAT``, never ``Auto``.
    """

    path: Path
    version: str
    format: str


def find_artifact(folder_or_file: Path, *, model_format: str) -> Artifact:
    """Find the one file to load.

    Args:
        folder_or_file: A file; a folder with one model file; or a folder of versions (folders with
            integer names), of which the highest counts.
        model_format: The wanted format, or ``Auto``.

    Returns:
        The artifact.

    Raises:
        StartupError: ``UnknownFormat``, when no file or several files qualify.
    """
    version = "1"
    place = folder_or_file
    if place.is_dir():
        versions = [p for p in place.iterdir() if p.name.isdecimal() and p.is_dir()]
        if versions:
            place = max(versions, key=lambda p: int(p.name))
            version = place.name
    files = [place] if place.is_file() else _model_files(place)
    if model_format != "Auto":
        matching = [f for f in files if _SUFFIXES.get(f.suffix.lower()) == model_format]
        # A single file is taken at its word even under an unusual name.
        files = matching or (_all_files(place) if not place.is_file() else files)
    if len(files) == 1:
        path = files[0]
        found = _SUFFIXES.get(path.suffix.lower()) if model_format == "Auto" else model_format
        if found is not None:
            return Artifact(path, version, found)
    listed = ", ".join(sorted(f.name for f in files)[:10]) or "no model file"
    problem = "several files are models" if len(files) > 1 else "no file is a known model"
    raise StartupError(
        Reason.UNKNOWN_FORMAT,
        f"{place}: {problem}: {listed}",
        hint=f"Keep one file of {', '.join(_SUFFIXES)}; set the format, or includePatterns.",
    )


def load_model(artifact: Artifact, *, device: str, threads: int, allow_pickle: bool) -> Model:
    """Load a model into memory.

    Args:
        artifact: What to load.
        device: ``Auto``, ``CPU`` or ``CUDA``.
        threads: Compute threads.
        allow_pickle: Whether formats that run code while loading may load.

    Returns:
        The model, not yet warmed.

    Raises:
        StartupError: With the reason of the contract.
    """
    if artifact.format in _PICKLED and not allow_pickle:
        raise StartupError(
            Reason.PICKLE_NOT_ALLOWED,
            f"{artifact.path.name} is a pickle, which runs code while it loads",
            hint="Allow it for sources that you trust, or export the model to ONNX.",
        )
    library = _LIBRARIES[artifact.format]
    if importlib.util.find_spec(library) is None:
        raise StartupError(
            Reason.FORMAT_UNAVAILABLE,
            f"{artifact.format} needs {library}, which this image does not have",
            hint="Use the torch variant of the runtime image." if library == "torch" else "",
        )
    bound_thread_pools(threads)
    try:
        return _load(artifact, device=device, threads=threads)
    except MemoryError as error:
        raise out_of_memory(artifact.path) from error
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise out_of_memory(artifact.path) from error
        raise StartupError(
            Reason.INVALID_ARTIFACT, f"{artifact.path.name}: {str(error)[:300]}"
        ) from error


def _load(artifact: Artifact, *, device: str, threads: int) -> Model:
    path = artifact.path
    if artifact.format == "ONNX":
        from modelyard_runtime.engine.onnx_engine import load_onnx  # noqa: PLC0415 - see above

        return load_onnx(path, device=device, threads=threads)
    if artifact.format == "Sklearn":
        from modelyard_runtime.engine.sklearn_engine import load_sklearn  # noqa: PLC0415

        return load_sklearn(path, device)
    if artifact.format == "TorchScript" and not _is_script(path):
        raise StartupError(
            Reason.INVALID_ARTIFACT,
            f"{path.name} is not TorchScript; it looks like saved weights or a pickled module",
            hint="Weights alone cannot run: save the model with torch.export.save (.pt2).",
        )
    from modelyard_runtime.engine import torch_engine  # noqa: PLC0415

    placement = torch_engine.Placement(torch_engine.choose_device(device), threads)
    if artifact.format == "TorchExport":
        return torch_engine.load_export(path, placement)
    return torch_engine.load_script(path, placement)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an allocator's failure from other errors.

    Args:
        error: What a loader or a model raised.

    Returns:
        True for Python's, numpy's, torch's and ONNX Runtime's ways to say it.
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in text
        for words in ("out of memory", "can't allocate memory", "failed to allocate", "bad_alloc")
    )


def out_of_memory(path: Path) -> StartupError:
    """Say that a model does not fit.

    Args:
        path: Its file.

    Returns:
        The error to raise.
    """
    size_mib = path.stat().st_size / 2**20
    return StartupError(
        Reason.OUT_OF_MEMORY,
        f"{path.name} ({size_mib:.0f} MiB) does not fit into memory",
        hint="Raise the memory limit to at least three times the file's size.",
    )


def _is_script(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _all_files(folder: Path) -> list[Path]:
    return [f for f in sorted(folder.rglob("*")) if f.is_file() and not f.name.startswith(".")]


def _model_files(folder: Path) -> list[Path]:
    return [f for f in _all_files(folder) if f.suffix.lower() in _SUFFIXES]
