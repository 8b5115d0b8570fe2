"""A real tritonserver, from the wheel of ``nvidia-pytriton``, as a process."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from testkit.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA: Final = Path(__file__).parents[1] / "data" / "triton"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "modelyard"
UV: Final = os.environ.get("UV", str(CACHE / "tools" / "uv-0.13" / "bin" / "uv"))
_PYTHON: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
_READY_S: Final = 200


@dataclass(frozen=True)
class Addresses:
    """Where a server listens."""

    http: str
    grpc: str


def environment(requirements: Path) -> Path:
    """Install pinned packages into an environment of their own, once for each content.

    Args:
        requirements: Every package with its version and hashes.

    Returns:
        The environment's folder.
    """
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    place = CACHE / "triton" / f"{_PYTHON}-{digest}"
    if (place / "complete").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    base = Path(sys.base_prefix) / "bin" / _PYTHON
    subprocess.run([UV, "venv", "--quiet", "--python", base, place], check=True)
    subprocess.run(
        [
            *(UV, "pip", "install", "--quiet", "--no-deps", "--require-hashes"),
            *("--python", place / "bin" / "python", "--requirements", requirements),
        ],
        check=True,
    )
    (place / "complete").touch()
    return place


@contextmanager
def tritonserver(folder: Path, models: Path) -> Iterator[Addresses]:
    """Run a tritonserver, and end it.

    Args:
        folder: Where it may write.
        models: Its model repository, Python backend only.

    Yields:
        Where it listens; every model is loaded.
    """
    place = environment(DATA / "requirements.txt")
    wheel = place / "lib" / _PYTHON / "site-packages" / "pytriton" / "tritonserver"
    _link_backend(wheel, folder / "backends" / "python")
    http, grpc = free_ports(2)
    arguments = {
        "model-repository": models,
        "backend-directory": folder / "backends",
        "model-control-mode": "explicit",
        "load-model": "*",
        "http-address": "127.0.0.1",
        "http-port": http,
        "grpc-address": "127.0.0.1",
        "grpc-port": grpc,
        "allow-metrics": "false",
        # Shared memory of models that a killed server left must not be this server's.
        "backend-config": f"python,shm-region-prefix-name=modelyard{os.getpid()}-",
    }
    words = [f"--{name}={value}" for name, value in arguments.items()]
    log = folder / "triton.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            # Completing a configuration starts a second process for each model.
            [wheel / "bin" / "tritonserver", "--disable-auto-complete-config", *words],
            # Its embedded interpreter finds its packages by the first python3 of the path.
            env={
                **os.environ,
                "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
                "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
            },
            stdout=out,
            stderr=out,
        )
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{http}", log)
        yield Addresses(f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}")
    finally:
        process.terminate()
        try:
            process.wait(20)  # it ends its models' processes
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _link_backend(wheel: Path, backend: Path) -> None:
    """Put the Python backend together with its program for this Python."""
    backend.mkdir(parents=True)
    stub = wheel / "python_backend_stubs" / _PYTHON.removeprefix("python")
    for file in (*(wheel / "backends" / "python").iterdir(), *stub.iterdir()):
        (backend / file.name).symlink_to(file)


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + _READY_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{address}/v2/health/ready", timeout=1).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"tritonserver is not ready: {log.read_text()[-4000:]}")
