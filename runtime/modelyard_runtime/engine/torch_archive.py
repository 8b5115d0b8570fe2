"""The ``.pt2`` archive as files: the program's JSON and its weights.

``torch.export.load`` imports torch's compiler first, which takes longer than everything else that the
process does before its first answer, and unpickles what is no plain tensor. Most programs need
neither: they are a list of operators in JSON beside the weights' bytes.

References:
    ``torch/_export/serde/schema.py`` and ``torch/export/pt2_archive/constants.py``.
"""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch._export.serde import schema

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedIOBase
    from pathlib import Path

_DTYPES: Final[Mapping[int, torch.dtype]] = {
    schema.ScalarType.BYTE: torch.uint8,
    schema.ScalarType.CHAR: torch.int8,
    schema.ScalarType.SHORT: torch.int16,
    schema.ScalarType.INT: torch.int32,
    schema.ScalarType.LONG: torch.int64,
    schema.ScalarType.HALF: torch.float16,
    schema.ScalarType.FLOAT: torch.float32,
    schema.ScalarType.DOUBLE: torch.float64,
    schema.ScalarType.BOOL: torch.bool,
    schema.ScalarType.BFLOAT16: torch.bfloat16,
    schema.ScalarType.UINT16: torch.uint16,
    schema.ScalarType.UINT32: torch.uint32,
    schema.ScalarType.UINT64: torch.uint64,
}


class UnreadableProgramError(Exception):
    """The archive holds what only ``torch.export.load`` understands."""


def dtype_of(number: int) -> torch.dtype:
    """Translate a scalar type of the schema.

    Args:
        number: As in the JSON.

    Returns:
        The dtype.

    Raises:
        UnreadableProgramError: It is not one of the plain ones.
    """
    try:
        return _DTYPES[number]
    except KeyError:
        raise UnreadableProgramError(f"scalar type {number}") from None


class Archive:
    """One exported program on disk.

    Args:
        path: A ``.pt2`` file.

    Raises:
        UnreadableProgramError: It holds no program, several, or one of another major version.
        zipfile.BadZipFile: It is no archive.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            programs = [name for name in names if "/models/" in name and name.endswith(".json")]
            if len(programs) != 1:
                raise UnreadableProgramError(f"{len(programs)} programs")
            self._root, _, file = programs[0].partition("/models/")
            self._name = file.removesuffix(".json")
            self.program: dict[str, Any] = json.loads(archive.read(programs[0]))
        major = self.program["schema_version"]["major"]
        if major != schema.SCHEMA_VERSION[0]:
            raise UnreadableProgramError(f"schema version {major}")

    def read_tensors(self) -> dict[str, torch.Tensor]:
        """Read the weights and constants.

        Returns:
            Qualified name → tensor on the CPU; tensors that shared memory share it again.

        Raises:
            UnreadableProgramError: One of them is pickled, or was not on a plain device.
        """
        tensors: dict[str, torch.Tensor] = {}
        with zipfile.ZipFile(self._path) as archive:
            for kind in ("weights", "constants"):
                folder = f"{self._root}/data/{kind}"
                config = json.loads(archive.read(f"{folder}/{self._name}_{kind}_config.json"))
                stored: dict[str, torch.Tensor] = {}
                for name, payload in config["config"].items():
                    file = payload["path_name"]
                    if payload["use_pickle"] or payload["tensor_meta"] is None:
                        raise UnreadableProgramError(f"{name} is pickled")
                    if file not in stored:
                        stored[file] = _read_bytes(archive, f"{folder}/{file}")
                    tensors[name] = _tensor(stored[file], payload["tensor_meta"])
        return tensors


def _read_bytes(archive: zipfile.ZipFile, name: str) -> torch.Tensor:
    """Read a file into memory that torch has aligned for its kernels."""
    content = torch.empty(archive.getinfo(name).file_size, dtype=torch.uint8)
    view, at = content.numpy().data, 0
    with archive.open(name) as file:
        reader = cast("BufferedIOBase", file)
        while at < len(view):
            read = reader.readinto(view[at:])
            if not read:
                raise UnreadableProgramError(f"{name} ends early")
            at += read
    return content


def _tensor(content: torch.Tensor, meta: Mapping[str, Any]) -> torch.Tensor:
    dtype = dtype_of(meta["dtype"])
    if meta["layout"] != schema.Layout.Strided:
        raise UnreadableProgramError(f"layout {meta['layout']}")
    sizes, strides = _integers(meta["sizes"]), _integers(meta["strides"])
    if not content.numel():
        return torch.zeros(sizes, dtype=dtype)
    (offset,) = _integers([meta["storage_offset"]])
    return content.view(dtype).as_strided(sizes, strides, offset)


def _integers(sizes: list[Mapping[str, Any]]) -> list[int]:
    try:
        return [size["as_int"] for size in sizes]
    except KeyError:
        raise UnreadableProgramError("a weight of dynamic size") from None
