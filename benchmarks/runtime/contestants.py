"""Who is measured: Modelyard, a bare server, and the peers in environments of their own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from artifacts import binary_request, data_request, v2_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from artifacts import Artifacts
    from processes import Request

HERE: Final = Path(__file__).parent
PEERS: Final = HERE / "peers"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "modelyard"
ENVIRONMENTS: Final = CACHE / "peers"
TORCH: Final = "torch==2.13.0"
PACKAGES: Final = {
    "litserve": ("litserve==0.2.19",),
    "bentoml": ("bentoml==1.4.39",),
    # Its workers need the older event loop.
    "mlserver": ("mlserver==1.7.1", "uvloop<0.22"),
    "torchserve": (
        *("torchserve==0.12.0", "torch-model-archiver==0.12.0", "setuptools<81"),
        *("pyyaml", "psutil", "requests", "packaging", "numpy", "pillow"),
    ),
}
"""Peer → what is installed for it, beside torch."""


@dataclass(frozen=True)
class Contestant:
    """One server under load.

    Attributes:
        name: For the table.
        command: Starts it; ``PORT`` in it is replaced.
        request: What it is asked.
        environment: Variables on top of ours.
    """

    name: str
    command: tuple[str, ...]
    request: Request
    environment: dict[str, str] = field(default_factory=dict)


def modelyard(name: str, path: Path, request: Request, **settings: str) -> Contestant:
    """Describe one of our own processes.

    Args:
        name: For the table.
        path: The model's file, named like the model.
        request: What it is asked.
        settings: Further ``MODELYARD_*``, in lower case.

    Returns:
        The contestant: one process, one compute thread.
    """
    values = {"threads": "1", "metrics_port": "0", "grpc_port": "0", **settings}
    return Contestant(
        name,
        (sys.executable, "-m", "modelyard_runtime", "serve", str(path), "--port", "PORT"),
        request,
        {f"MODELYARD_{key.upper()}": value for key, value in values.items()},
    )


def hello(request: Request) -> Contestant:
    """Describe the bare server, which answers anything."""
    return Contestant("bare uvicorn hello", _uvicorn("hello"), request, _environment("m1"))


def ours(artifacts: Artifacts, model: str) -> list[Contestant]:
    """List the bare server, the naive one, and Modelyard in its two formats of tensors."""
    path, plain = artifacts.exported[model], data_request(model)
    return [
        hello(plain),
        Contestant("naive FastAPI + torch", _uvicorn("naive"), plain, _environment(model)),
        modelyard("**modelyard**, JSON", path, v2_request(model)),
        modelyard("**modelyard**, binary", path, binary_request(model)),
    ]


def _uvicorn(module: str) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "uvicorn", "--port", "PORT", "--log-level", "critical"),
        *("--no-access-log", f"peers.{module}:app"),
    )


def _environment(model: str) -> dict[str, str]:
    return {
        "BENCH_MODEL": model,
        "PYTHONPATH": f"{HERE}:{PEERS}",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }


def peer(name: str, model: str, folder: Path) -> Contestant:
    """Install a peer, if that has not been done, and say how it is started.

    Args:
        name: A key of ``PACKAGES``.
        model: ``m1`` or ``m2``.
        folder: For its files.

    Returns:
        The contestant.

    Raises:
        RuntimeError: It cannot be installed here.
    """
    makers: dict[str, Callable[[Path, str, Path], Contestant]] = {
        "litserve": _litserve,
        "bentoml": _bentoml,
        "mlserver": _mlserver,
        "torchserve": _torchserve,
    }
    folder.mkdir(parents=True)
    return makers[name](_installed(name), model, folder)


def _installed(name: str) -> Path:
    """Return the folder of a peer's programs."""
    wanted = (*PACKAGES[name], TORCH)
    key = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:8]
    place = ENVIRONMENTS / f"{name}-{key}"
    if not (place / "complete").exists():
        uv = os.environ.get("UV") or shutil.which("uv")
        if uv is None:
            raise RuntimeError("uv is not there; use make bench")
        shutil.rmtree(place, ignore_errors=True)
        for words in (
            ["venv", "--python", sys.executable, str(place)],
            ["pip", "install", "--python", str(place / "bin" / "python"), *wanted],
        ):
            done = subprocess.run([uv, *words], check=False, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{name} cannot be installed: {done.stderr[-500:]}")
        (place / "complete").touch()
    return place / "bin"


def _litserve(programs: Path, model: str, folder: Path) -> Contestant:
    del folder
    command = (str(programs / "python"), str(PEERS / "litserve_server.py"), "PORT")
    request = data_request(model, path="/predict")
    # The best of several waits on these models.
    wait = {"m1": "1", "m2": "10"}[model]
    return Contestant("LitServe", command, request, _environment(model) | {"BENCH_WAIT_MS": wait})


def _bentoml(programs: Path, model: str, folder: Path) -> Contestant:
    command = (
        *(str(programs / "python"), "-m", "bentoml", "serve", "bentoml_server:Model"),
        *("--working-dir", str(PEERS), "--host", "127.0.0.1", "--port", "PORT", "-q"),
    )
    extra = {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    return Contestant("BentoML", command, data_request(model), _environment(model) | extra)


def _mlserver(programs: Path, model: str, folder: Path) -> Contestant:
    place = folder / model
    place.mkdir()
    settings = {
        "name": model,
        "implementation": "mlserver_runtime.Model",
        "max_batch_size": 32,
        "max_batch_time": 0.001,
    }
    (place / "model-settings.json").write_text(json.dumps(settings))
    server: dict[str, Any] = {"debug": False, "parallel_workers": 0, "metrics_endpoint": None}
    (folder / "settings.json").write_text(json.dumps(server))
    environment = _environment(model) | {
        "MLSERVER_HTTP_PORT": "PORT",
        "MLSERVER_GRPC_PORT": "0",
        "MLSERVER_METRICS_PORT": "0",
    }
    command = (str(programs / "mlserver"), "start", str(folder))
    return Contestant("MLServer", command, v2_request(model), environment)


def _torchserve(programs: Path, model: str, folder: Path) -> Contestant:
    if shutil.which("java") is None:
        raise RuntimeError("TorchServe needs Java")
    environment = _environment(model) | {"PATH": f"{programs}:{os.environ['PATH']}"}
    archiver = str(programs / "torch-model-archiver")
    subprocess.run(
        [
            *(archiver, "--model-name", model, "--version", "1.0", "--export-path", str(folder)),
            *("--handler", str(PEERS / "torchserve_handler.py")),
            *("--extra-files", str(HERE / "architectures.py")),
        ],
        check=True,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
    )
    details = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 32, "maxBatchDelay": 1}
    details |= {"marName": f"{model}.mar", "defaultVersion": True, "responseTimeout": 120}
    config = folder / "config.properties"
    config.write_text(
        "inference_address=http://127.0.0.1:PORT\n"
        "management_address=http://127.0.0.1:0\nmetrics_address=http://127.0.0.1:0\n"
        f"default_workers_per_model=1\nmodels={json.dumps({model: {'1.0': details}})}\n"
    )
    # The port is known only when it starts.
    script = (
        f"sed -i s/127.0.0.1:PO''RT/127.0.0.1:PORT/ {config} && cd {folder} && exec "
        f"torchserve --start --foreground --model-store {folder} --models {model}={model}.mar "
        f"--ts-config {config} --disable-token-auth"
    )
    request = data_request(model, path=f"/predictions/{model}")
    return Contestant("TorchServe", ("bash", "-c", script), request, environment)
