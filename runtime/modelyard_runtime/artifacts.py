"""Which files of a folder are the model, and which format they have."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime.config import CONFIG_FILE
from modelyard_runtime.errors import Reason, StartupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from modelyard_runtime.config import VersionPolicy

_SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    ".pt2": ("TorchExport",),
    ".pt": ("TorchScript", "TorchEager"),
    ".pth": ("TorchScript", "TorchEager"),
    ".ts": ("TorchScript",),
    ".safetensors": ("Safetensors",),
    ".onnx": ("ONNX",),
    ".joblib": ("Sklearn",),
    ".pkl": ("Sklearn",),
    ".pickle": ("Sklearn",),
    ".ubj": ("XGBoost",),
    ".json": ("XGBoost",),
    ".txt": ("LightGBM",),
}
"""Suffix → the formats that it may be; the first one, unless the file's content says otherwise."""
_OPENINGS: Final[Mapping[str, bytes]] = {".json": b'{"learner"', ".txt": b"tree\n"}
"""Suffixes that other files have too → how a model's content begins."""
_FOLDERS: Final = ("MLflow", "HuggingFace", "Custom")
HANDLER_FILES: Final = ("handler.py", "model.py")
"""What a model's own Python file is called, where ``entry`` does not say."""
_LISTED: Final = 10


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model on disk.

    Attributes:
        path: Its main file; for formats that are folders, the folder.
        version: Its version in the repository.
        format: A word of ``MODELYARD_MODEL_FORMAT``, never ``Auto``.
        handler: The Python file beside it; None when there is none.
    """

    path: Path
    version: str
    format: str
    handler: Path | None = None


def find_artifact(
    folder_or_file: Path, *, model_format: str, handler: Path | None = None
) -> Artifact:
    """Find the one model of a file or folder.

    Args:
        folder_or_file: A file; a folder with one model; or a folder of versions (folders with
            integer names), of which the highest counts.
        model_format: The wanted format, or ``Auto``.
        handler: The model's Python file; None looks for one in the folder.

    Returns:
        The artifact.

    Raises:
        StartupError: ``UnknownFormat``, when nothing or several things qualify.
    """
    versions = _versions(folder_or_file)
    if not versions:
        return _artifact(folder_or_file, "1", model_format, handler or _handler(folder_or_file))
    highest = max(versions)
    place = versions[highest]
    found = handler or _handler(place, folder_or_file)
    return _artifact(place, str(highest), model_format, found)


def find_artifacts(
    place: Path, *, model_format: str, policy: VersionPolicy, handler: Path | None = None
) -> list[Artifact]:
    """Find every version of a model that is to be served.

    Args:
        place: As for ``find_artifact``.
        model_format: The wanted format, or ``Auto``.
        policy: Which versions are served.
        handler: The model's Python file; None looks for one in the folders.

    Returns:
        Lowest version first.

    Raises:
        StartupError: ``UnknownFormat``, also when a version that was asked for is not there.
    """
    versions = _versions(place)
    if policy.policy == "specific":
        absent = sorted(set(policy.only) - set(versions))
        if absent:
            there = ", ".join(map(str, sorted(versions))) or "none"
            raise StartupError(
                Reason.UNKNOWN_FORMAT,
                f"{place}: versions.only asks for version {absent[0]}, there are {there}",
                hint="A version is a folder with an integer name.",
            )
        wanted = sorted(set(policy.only))
    else:
        wanted = sorted(versions)
        if policy.policy == "latest":
            wanted = wanted[-policy.n :]
    if not wanted:
        return [find_artifact(place, model_format=model_format, handler=handler)]
    return [
        _artifact(versions[v], str(v), model_format, handler or _handler(versions[v], place))
        for v in wanted
    ]


def digest_of(path: Path) -> str:
    """Hash an artifact as the contract says; the file that states the digest is no part of it.

    Args:
        path: A file or folder.

    Returns:
        ``sha256:<hex>``.

    References:
        ``docs/reference/runtime-contract.md``, "The pod".
    """
    if path.is_file():
        return f"sha256:{_sha256(path)}"
    files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
    files.pop(CONFIG_FILE, None)
    lines = "".join(f"{_sha256(files[name])}  {name}\n" for name in sorted(files))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions(place: Path) -> dict[int, Path]:
    if not place.is_dir():
        return {}
    return {
        int(folder.name): folder
        for folder in place.iterdir()
        if folder.name.isdecimal() and folder.is_dir()
    }


def _artifact(place: Path, version: str, model_format: str, handler: Path | None) -> Artifact:
    """Tell the format of one version.

    A folder whose own files say what it is (MLflow, Hugging Face) is that; else one model file
    decides; else a Python file alone is the model.
    """
    folder = _known_folder(place, model_format)
    if folder is not None:
        return Artifact(folder[0], version, folder[1], handler)
    files = [place] if place.is_file() else _model_files(place, model_format)
    if len(files) == 1:
        found = model_format if model_format != "Auto" else _told(files[0], handler)
        if found is not None:
            return Artifact(files[0], version, found, handler)
    if not files and handler is not None and model_format in {"Auto", "Custom", "TorchEager"}:
        return Artifact(
            place, version, "Custom" if model_format == "Auto" else model_format, handler
        )
    raise _unknown(place, model_format, files)


def _known_folder(place: Path, model_format: str) -> tuple[Path, str] | None:
    if not place.is_dir():
        return None
    if model_format in {"Auto", "MLflow"}:
        found = _holder(place, "MLmodel")
        if found is not None:
            return found, "MLflow"
    if model_format in {"Auto", "HuggingFace"}:
        found = _holder(place, "config.json")
        if found is not None and "model_type" in _json(found / "config.json"):
            return found, "HuggingFace"
    if model_format == "Custom":
        return place, "Custom"
    return None


def _holder(place: Path, name: str) -> Path | None:
    """Find the folder with a file: the place itself, or the only one directly below that has it."""
    if (place / name).is_file():
        return place
    below = [found.parent for found in sorted(place.glob(f"*/{name}"))]
    return below[0] if len(below) == 1 else None


def _model_files(place: Path, model_format: str) -> list[Path]:
    files = [
        found
        for found in sorted(place.rglob("*"))
        if found.is_file()
        and not any(part.startswith(".") for part in found.relative_to(place).parts)
        and found.name != CONFIG_FILE
        and found.suffix != ".py"
    ]
    if model_format in _FOLDERS:
        return []
    if model_format == "Auto":
        return [found for found in files if _told(found, None) is not None]
    matching = [
        f for f in files if model_format in _SUFFIXES.get(f.suffix.lower(), ()) and _opens(f)
    ]
    # A single file is taken at its word even under an unusual name.
    return matching or files


def _told(path: Path, handler: Path | None) -> str | None:
    """Tell a file's format from its suffix and its content."""
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES or not _opens(path):
        return None
    if suffix in {".pt", ".pth"} and handler is not None and not is_script(path):
        return "TorchEager"
    return _SUFFIXES[suffix][0]


def _opens(path: Path) -> bool:
    opening = _OPENINGS.get(path.suffix.lower())
    if opening is None:
        return True
    with path.open("rb") as file:
        head = file.read(256)
    return b"".join(head.split(b" ")).lstrip().startswith(opening)


def is_script(path: Path) -> bool:
    """Tell TorchScript from saved weights, which have the same suffixes.

    Args:
        path: A file.

    Returns:
        Whether it holds code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _handler(*folders: Path) -> Path | None:
    """Find the Python file: beside this version's files, else beside the versions."""
    for folder in folders:
        for name in HANDLER_FILES:
            if (folder / name).is_file():
                return folder / name
    return None


def _json(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return {}
    return document if isinstance(document, dict) else {}


def _unknown(place: Path, model_format: str, files: Iterable[Path]) -> StartupError:
    names = sorted(file.name for file in files)
    if not place.exists():
        problem = "it does not exist"
    elif names and place.is_dir():
        problem = f"several files may be the model: {', '.join(names[:_LISTED])}"
    elif model_format != "Auto":
        problem = f"it holds no {model_format} model"
    else:
        there = (
            sorted(f.name for f in place.iterdir())[:_LISTED] if place.is_dir() else [place.name]
        )
        problem = f"no file is a known model: {', '.join(there) or 'the folder is empty'}"
    return StartupError(
        Reason.UNKNOWN_FORMAT,
        f"{place}: {problem}",
        hint=(
            f"Keep one file of {', '.join(_SUFFIXES)}, an MLflow or Hugging Face folder, or a "
            "handler.py; set the format, or includePatterns."
        ),
    )
