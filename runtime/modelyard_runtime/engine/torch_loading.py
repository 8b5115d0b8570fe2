"""Which loader reads a file of torch's, and where the model is to run."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from modelyard_runtime.engine.torch_engine import Placement, choose_device
from modelyard_runtime.errors import Reason, StartupError

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard_runtime.config import ModelConfig
    from modelyard_runtime.engine.protocol import Model


def place(config: ModelConfig, threads: int) -> Placement:
    """Choose where and how a model runs.

    Args:
        config: Its configuration.
        threads: Compute threads.

    Returns:
        The placement.

    Raises:
        StartupError: ``DeviceUnavailable``.
    """
    options = None if config.compile is None else config.compile.model_dump()
    return Placement(choose_device(config.device), threads, config.dtype, options)


def load_file(path: Path, name: str, placement: Placement, *, allow_pickle: bool) -> Model:
    """Load a model that needs no code of the user's.

    Args:
        path: Its file or folder.
        name: ``TorchExport``, ``TorchScript`` or ``HuggingFace``.
        placement: Where to run.
        allow_pickle: Whether code in the file may run.

    Returns:
        The model.

    Raises:
        StartupError: With the reason of the contract.
    """
    # Each is imported where it is needed: transformers alone takes a second.
    if name == "HuggingFace":
        from modelyard_runtime.engine.huggingface_engine import load_huggingface  # noqa: PLC0415

        return load_huggingface(path, placement, dtype=placement.dtype)
    if name == "TorchScript":
        from modelyard_runtime.engine.torch_script import load_script  # noqa: PLC0415

        return load_script(path, placement)
    if is_compiled(path):
        if not allow_pickle:
            raise StartupError(
                Reason.PICKLE_NOT_ALLOWED,
                f"{path.name} is an AOTInductor package: machine code, which runs as it is",
                hint="Allow it for sources that you trust (allowPickle), or save the exported "
                "program itself with torch.export.save.",
            )
        from modelyard_runtime.engine.torch_aoti import load_compiled  # noqa: PLC0415

        return load_compiled(path, placement)
    from modelyard_runtime.engine.torch_export import load_export  # noqa: PLC0415

    return load_export(path, placement)


def is_compiled(path: Path) -> bool:
    """Tell AOTInductor packages from exported programs, which have the same suffix.

    Args:
        path: A file.

    Returns:
        Whether it holds machine code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/data/aotinductor/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False
