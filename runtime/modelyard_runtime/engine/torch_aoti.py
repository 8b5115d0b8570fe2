"""AOTInductor packages: programs that were compiled to machine code."""

from __future__ import annotations

import json
import os
import re
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch

from modelyard_runtime.engine.protocol import ANY, TensorSpec
from modelyard_runtime.engine.torch_archive import Archive, UnreadableProgramError
from modelyard_runtime.engine.torch_engine import TorchModel, brief, invalid_artifact
from modelyard_runtime.engine.torch_program import Signature, describe, output_names
from modelyard_runtime.errors import Reason, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from modelyard_runtime.engine.torch_engine import Placement

_FOLDER: Final = "/data/aotinductor/"
_CHECKS: Final = "AOTI_RUNTIME_CHECK_INPUTS"
_TOO_FEW: Final = re.compile(r"dim value is too small at 0, expected it to be >= (\d+)")


def load_compiled(path: Path, placement: Placement) -> TorchModel:
    """Load what ``torch._inductor.aoti_compile_and_package`` wrote.

    A package says how many tensors it takes and gives, not which: it is batched where its inputs
    are declared, or where it also holds the exported program. It checks datatypes and sizes itself
    before it computes; without that it would read beyond the end of a tensor that is too small.

    Args:
        path: A ``.pt2`` file.
        placement: Where to run.

    Returns:
        The model.

    Raises:
        StartupError: ``InvalidArtifact``; ``InvalidSettings``: it is to compute in another dtype,
            or to be compiled again; ``DeviceUnavailable``.

    References:
        PyTorch documentation, "AOTInductor: Ahead-Of-Time Compilation".
    """
    if placement.dtype != "Auto" or placement.compile is not None:
        raise StartupError(
            Reason.INVALID_SETTINGS,
            f"{path.name} is compiled already: dtype and compile cannot be set",
            hint="Leave them out, or serve the exported program.",
        )
    package, device, signature = _open(path, placement.device)
    rows = _Rows(package.run)
    model = TorchModel(
        rows,
        signature.inputs,
        signature.outputs,
        kind=("TorchExport", "pytorch_aotinductor"),
        placement=replace(placement, device=device),
    )
    rows.may_pad = lambda: model.batched
    model.batched, model.max_rows = signature.batched, signature.max_rows
    return model


class _Rows:
    """A package's call, also for fewer rows than it was exported for.

    Exporting takes 0 and 1 for special, so most packages refuse a single row. It is then repeated,
    if rows do not depend on one another.

    Args:
        run: The package.
    """

    def __init__(self, run: Callable[[list[torch.Tensor]], list[torch.Tensor]]) -> None:
        self._run = run
        self._fewest = 0
        self.may_pad: Callable[[], bool] = lambda: False

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows = tensors[0].shape[0] if tensors and tensors[0].ndim else self._fewest
        if rows >= self._fewest:
            try:
                return tuple(self._run(list(tensors)))
            except RuntimeError as error:
                found = _TOO_FEW.search(str(error))
                if found is None or not rows:
                    raise
                self._fewest = int(found[1])
        if not self.may_pad():
            raise ValueError(f"the package takes {self._fewest} rows or more, got {rows}")
        more = self._fewest - rows
        padded = [torch.cat([each, each[-1:].repeat_interleave(more, 0)]) for each in tensors]
        return tuple(each[:rows] for each in self._run(padded))


def _open(path: Path, wanted: torch.device) -> tuple[Any, torch.device, Signature]:
    """Open the package's only model on the device that it was compiled for, and describe it."""
    # Read by every package before its first run, and written nowhere else.
    os.environ[_CHECKS] = "1"
    try:
        name = _model_name(path)
        loader: Any = torch._C._aoti.AOTIModelPackageLoader  # noqa: SLF001 - aoti_load_package imports the compiler
        about = loader.load_metadata_from_package(str(path), name)
        device = _device(path, about, wanted)
        package = loader(str(path), name, False, 1, -1)
        takes, gives = (json.loads(text)[1] for text in package.get_call_spec())
    except StartupError:
        raise
    except Exception as error:
        raise _invalid(path, f"torch refuses it: {brief(error)}") from error
    return package, device, _signature(path, takes, gives)


def _model_name(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        places = [each.partition(_FOLDER)[2] for each in archive.namelist() if _FOLDER in each]
    names = sorted({place.partition("/")[0] for place in places})
    if len(names) != 1:
        raise _invalid(path, f"it holds several models: {', '.join(names)}")
    return names[0]


def _device(path: Path, about: Mapping[str, str], wanted: torch.device) -> torch.device:
    """Choose the device that it was compiled for; code for another processor would crash."""
    made_for = about.get("AOTI_DEVICE_KEY", "cpu")
    if made_for == "cuda" and wanted.type != "cuda":
        raise StartupError(
            Reason.DEVICE_UNAVAILABLE,
            f"{path.name} is compiled for CUDA, and the model is to run on the CPU",
            hint="Request a GPU, or compile the package for the CPU.",
        )
    has = torch.backends.cpu.get_cpu_capability()
    needs = about.get("AOTI_CPU_ISA", "").split()
    if "AVX512" in needs and not has.startswith("AVX512"):
        raise _invalid(path, f"it is compiled for AVX512, this processor has {has}")
    return torch.device(made_for)


def _signature(path: Path, takes: Mapping[str, Any], gives: Mapping[str, Any]) -> Signature:
    """Describe the tensors: by the exported program beside the code, else by their number."""
    try:
        return describe(Archive(path).program)
    except UnreadableProgramError:
        pass  # most packages hold machine code alone
    positional, named = takes["children_spec"]
    count = len(positional["children_spec"])
    if any(
        each["type"] is not None for group in (positional, named) for each in group["children_spec"]
    ):
        raise _invalid(path, "its inputs are nested; each must be a tensor")
    inputs = ["input"] if count == 1 else [f"input_{at}" for at in range(count)]
    inputs += json.loads(named["context"])
    outputs = output_names(gives)
    return Signature(
        tuple(TensorSpec(name, ANY, None) for name in inputs),
        tuple(TensorSpec(name, ANY, None) for name in outputs),
    )


def _invalid(path: Path, why: str) -> StartupError:
    return invalid_artifact(
        path,
        why,
        hint="Compile it again with torch._inductor.aoti_compile_and_package, on a machine like "
        "the one that serves it.",
    )
