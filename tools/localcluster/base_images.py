"""Images that no Dockerfile here builds: pause, Python, and one program alone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from localcluster import versions
from localcluster.buildah import Buildah, base_folder
from localcluster.processes import run

if TYPE_CHECKING:
    from pathlib import Path

    from localcluster.paths import Cache
    from localcluster.report import Report

PAUSE_SOURCE: Final = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int number) { (void)number; _exit(0); }

/* Holds a pod's namespaces, and buries orphans where the pod shares its process namespace. */
int main(void) {
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    for (;;)
        if (waitpid(-1, 0, 0) < 0)
            pause();
}
"""
PYTHON_PACKAGES: Final = "python3,python3-venv,python3-pip,ca-certificates,libgomp1"
PYTHON_REVISION: Final = "2"
"""Changed with the way the Python image is made: it and its users are built anew."""
REVISION_LABEL: Final = "dev.modelyard.revision"
NOTHING: Final = "scratch"
"""The base of an image that has none."""
PROGRAM_FOLDER: Final = "usr/local/bin"
PROGRAM_CONFIG: Final = (f"--env=PATH=/{PROGRAM_FOLDER}", "--user=65532:65532")


def ensure_pause(cache: Cache) -> None:
    """Make the image that every pod's sandbox runs."""
    buildah = Buildah(cache)
    if buildah.has(versions.PAUSE_IMAGE):
        return
    with cache.lock("image-pause"):
        work = base_folder(cache, "pause")
        source = work.with_suffix(".c")
        source.write_text(PAUSE_SOURCE)
        run(["gcc", "-static", "-Os", "-s", "-o", str(work / "pause"), str(source)])
        config = ('--entrypoint=["/pause"]', "--user=65535:65535")
        buildah.from_folder(versions.PAUSE_IMAGE, work, config)
        source.unlink()
        shutil.rmtree(work)


def ensure_program(cache: Cache, image: str, program: Path, *, base: str = NOTHING) -> None:
    """Make an image that holds one program, on its PATH.

    Args:
        cache: Where images are kept.
        image: Name of the image.
        program: The program, which is the entry point.
        base: What the program needs beside itself; nothing when it is static.
    """
    buildah = Buildah(cache)
    if buildah.has(image):
        return
    work = base_folder(cache, program.name)
    folder = work / PROGRAM_FOLDER
    folder.mkdir(parents=True)
    shutil.copy2(program, folder)
    (work / "tmp").mkdir()
    (work / "tmp").chmod(0o1777)  # where every user may write, whatever this one's umask is
    config = (f'--entrypoint=["/{PROGRAM_FOLDER}/{program.name}"]', *PROGRAM_CONFIG)
    buildah.from_folder(image, work, config, base=base)
    shutil.rmtree(work)


def ensure_python(cache: Cache, report: Report) -> None:
    """Make the Python base image from Debian's packages, under the official image's name.

    The same Dockerfiles then build here and with Docker: ``python``, ``python3`` and ``pip`` are
    on the PATH, and pip installs without asking for a virtual environment.
    """
    buildah = Buildah(cache)
    if buildah.label(versions.PYTHON_IMAGE, REVISION_LABEL) == PYTHON_REVISION:
        return
    with (
        cache.lock("image-python"),
        report.step("Python base image from Debian packages", "first time only, about 1 min"),
    ):
        work = base_folder(cache, "python")
        run(
            [
                *("debootstrap", "--variant=minbase", f"--include={PYTHON_PACKAGES}"),
                *(versions.DEBIAN, str(work)),
            ]
        )
        for name in ("EXTERNALLY-MANAGED",):
            (work / "usr/lib/python3.11" / name).unlink(missing_ok=True)
        for link, target in {"python": "python3", "python3": "python3", "pip": "pip"}.items():
            (work / "usr/local/bin" / link).symlink_to(f"/usr/bin/{target}")
        for waste in (
            "var/cache/apt/archives",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/man",
        ):
            shutil.rmtree(work / waste, ignore_errors=True)
        (work / "var/cache/apt/archives/partial").mkdir(parents=True)
        buildah.from_folder(
            versions.PYTHON_IMAGE,
            work,
            (
                "--env=PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
                "--env=LANG=C.UTF-8",
                f"--label={REVISION_LABEL}={PYTHON_REVISION}",
                '--cmd=["python3"]',
            ),
        )
        shutil.rmtree(work)
