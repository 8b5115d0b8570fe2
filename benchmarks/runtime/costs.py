"""What a single part costs: large bodies, large neighbours, and what optimising gains."""

from __future__ import annotations

import json
import threading
import urllib.request
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from artifacts import binary, binary_request, row, v2_request
from contestants import hello, modelyard
from load import load
from processes import ask, free_port, started
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from artifacts import Artifacts
    from processes import Request, Server

    Section = tuple[str, str, tuple[str, ...], list[tuple[str, ...]]]

IMAGE: Final = (3, 224, 224)
"""602,112 bytes of float32."""
LARGE_ROWS: Final = 20_000


class _FirstPixels(nn.Module):
    """As good as no work: the first ten values."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as in nn.Sequential
        """Return ``(n, 10)`` for ``(n, 3, 224, 224)``."""
        return input[:, 0, 0, :10] + 0.0


def sections(artifacts: Artifacts, folder: Path, seconds: float) -> Iterator[Section]:
    """Measure the parts one after the other.

    Args:
        artifacts: The models.
        folder: For further files.
        seconds: Of load for each figure.

    Yields:
        Title, explanation, heads and rows of a table each.
    """
    yield _large_body(folder, seconds)
    yield _large_neighbour(artifacts, folder, seconds)
    yield _optimised(artifacts, folder, seconds)


def _large_body(folder: Path, seconds: float) -> Section:
    path = folder / "pixels.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            _FirstPixels(),
            (torch.zeros(2, *IMAGE),),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )
        torch.export.save(program, path)
    request = binary("pixels", np.zeros((1, *IMAGE), np.float32))
    bare = hello(request)
    rows = []
    spent = {}
    for contestant in (bare, modelyard("modelyard", path, request)):
        with started(
            contestant.command, contestant.environment, request, folder / "server.log"
        ) as server:
            load(server, request, connections=4, seconds=1)
            seen = load(server, request, connections=4, seconds=seconds)
        spent[contestant.name] = seen.cpu_ms
        rows.append((contestant.name, f"{seen.rate:,.0f}", f"{seen.cpu_ms:.3f}"))
    over = spent["modelyard"] - spent[bare.name]
    rows.append(("over transport", "", f"**{over:.3f}**"))
    return (
        "A binary body of 602 KB",
        (
            "One 3x224x224 float32 image, four connections; the model only copies ten values. Over "
            "transport is what is left when the bare server's cost for the same body is taken off."
        ),
        ("server", "req/s", "CPU ms/req"),
        rows,
    )


def _large_neighbour(artifacts: Artifacts, folder: Path, seconds: float) -> Section:
    small = v2_request("m1")
    large = binary("m1", np.repeat(row("m1"), LARGE_ROWS, axis=0))
    contestant = modelyard("modelyard", artifacts.exported["m1"], small)
    rows = []
    with started(
        contestant.command, contestant.environment, small, folder / "server.log"
    ) as server:
        load(server, small, connections=4, seconds=1)
        alone = load(server, small, connections=4, seconds=seconds)
        with _asking(server, large) as asked:
            beside = load(server, small, connections=4, seconds=seconds)
        rows = [
            ("alone", f"{alone.rate:,.0f}", f"{alone.p50_ms:.2f} / {alone.p99_ms:.1f}", ""),
            (
                f"beside requests of {LARGE_ROWS:,} rows",
                f"{beside.rate:,.0f}",
                f"{beside.p50_ms:.2f} / {beside.p99_ms:.1f}",
                str(asked[0]),
            ),
        ]
    return (
        "Small requests beside a large one",
        (
            "M1, one row each over four connections, while one caller sends large requests "
            "(10 MB, binary) without a pause."
        ),
        ("small requests", "req/s", "p50/p99 ms", "large ones answered"),
        rows,
    )


@contextmanager
def _asking(server: Server, request: Request) -> Iterator[list[int]]:
    """Send one request after the other in a thread; counts the answers."""
    answered, stop = [0], threading.Event()

    def run() -> None:
        while not stop.is_set():
            ask(server.address, request)
            answered[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answered
    finally:
        stop.set()
        thread.join()


def _optimised(artifacts: Artifacts, folder: Path, seconds: float) -> Section:
    rows = []
    for model, path in artifacts.exported.items():
        for mode in ("Off", "Auto"):
            request = binary_request(model)
            port = str(free_port())
            contestant = modelyard(mode, path, request, optimize=mode, metrics_port=port)
            with started(
                contestant.command, contestant.environment, request, folder / "server.log"
            ) as server:
                one = load(server, request, connections=1, seconds=seconds)
                many = load(server, request, connections=64, seconds=seconds)
                chosen = _chosen(port)
            rows.append(
                (
                    *(model.upper(), mode, f"{one.rate:,.0f}", f"{many.rate:,.0f}"),
                    *(str(chosen.get("chosen", "")), str(chosen.get("gain", ""))),
                )
            )
    return (
        "What `optimize: Auto` gains",
        (
            "Binary bodies; what was chosen, and the gain that was measured at warm-up, as "
            "`/status` reports them."
        ),
        ("model", "optimize", "req/s c1", "req/s c64", "chosen", "gain at warm-up"),
        rows,
    )


def _chosen(port: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status") as answer:
        document = json.load(answer)
    return dict(document["models"][0].get("optimizations") or {})
