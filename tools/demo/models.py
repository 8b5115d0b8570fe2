"""What training leaves behind, as the driver reads it without loading torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HELD_OUT_FILE: Final = "held-out.npz"
REPORT_FILE: Final = "report.json"


@dataclass(frozen=True)
class Trained:
    """One model on disk.

    Attributes:
        key: Where it goes below the bucket, e.g. ``digits/1/model.pt2``.
        what: What kind of model it is, in words.
        accuracy: Share of the held-out digits that it gets right, computed without a server.
        seconds: Time to train it.
        digest: ``sha256:…`` of the file.
    """

    key: str
    what: str
    accuracy: float
    seconds: float
    digest: str


def write_report(folder: Path, trained: Sequence[Trained]) -> None:
    """Note what was trained."""
    (folder / REPORT_FILE).write_text(json.dumps([asdict(item) for item in trained]))


def read_report(folder: Path) -> list[Trained]:
    """Return what was trained."""
    return [Trained(**item) for item in json.loads((folder / REPORT_FILE).read_text())]
