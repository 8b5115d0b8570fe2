"""``perf_analyzer``, the load generator of Triton's makers, as a command."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from testkit.triton_server import CACHE, DATA, UV

if TYPE_CHECKING:
    from pathlib import Path

_REQUIREMENTS: Final = DATA.parent / "perf_analyzer" / "requirements.txt"
_NEEDED: Final = (2, 38)
"""The C library that its wheel is built for."""
_PACKAGES: Final = ("libc6", "libgcc-s1", "libssl3t64", "libstdc++6", "libzstd1", "zlib1g")
_SOURCE: Final = (
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    "http://deb.debian.org/debian trixie main\n"
)


def perf_analyzer() -> list[str]:
    """Install it, once; where the C library is too old, beside a newer one from Debian.

    Returns:
        How its command line begins.
    """
    digest = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:12]
    place = CACHE / "triton" / f"perf-analyzer-{digest}"
    program = place / "python" / "perf_analyzer" / "bin" / "perf_analyzer"
    libraries = place / "root" / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    is_old = tuple(map(int, platform.libc_ver()[1].split("."))) < _NEEDED
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        _install_program(place / "python")
        if is_old:
            _install_libraries(place)
        (place / "complete").touch()
    if not is_old:
        return [str(program)]
    (loader,) = libraries.glob("ld-linux-*")
    return [str(loader), "--library-path", str(libraries), str(program)]


def _install_program(target: Path) -> None:
    system = f"{platform.machine()}-manylinux_2_38"
    subprocess.run(
        [
            *(UV, "pip", "install", "--quiet", "--no-deps", "--require-hashes"),
            *("--python-platform", system, "--target", target, "--requirements", _REQUIREMENTS),
        ],
        check=True,
    )


def _install_libraries(place: Path) -> None:
    """Unpack Debian packages into a folder; apt's own state stays as it is."""
    state = place / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True)
    (state / "sources.list").write_text(_SOURCE)
    (state / "status").touch()
    settings = {
        "Dir::Etc::SourceList": state / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": state / "lists",
        "Dir::State::Status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": os.environ.get("USER", "root"),
    }
    apt = ["apt-get", "-qq", *(f"-o={name}={value}" for name, value in settings.items())]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *_PACKAGES], cwd=place, check=True)
    for package in place.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, place / "root"], check=True)
        package.unlink()
    shutil.rmtree(state)
