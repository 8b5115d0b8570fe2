"""Batchers for tests: a model that doubles numbers, and may be held."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from modelyard_runtime.batching.batcher import Batcher
from modelyard_runtime.batching.calls import BatchLimits
from modelyard_runtime.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelyard_runtime.batching.calls import BatchReport

Item = list[int]
POISON: Final = -1
REFUSED: Final = -2


@dataclass
class Doubling:
    """Doubles numbers; some make it raise. Remembers its batches, and may be held."""

    batches: list[list[Item]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def run(self, items: Sequence[Item]) -> Sequence[Item]:
        self.batches.append([list(item) for item in items])
        self.entered.set()
        assert self.gate.wait(10)
        flat = [number for item in items for number in item]
        if POISON in flat:
            raise ValueError("poison")
        if REFUSED in flat:
            raise InvalidInputError("refused")
        return [[2 * number for number in item] for item in items]

    @staticmethod
    def cut(item: Item, start: int, stop: int) -> Item:
        return item[start:stop]

    @staticmethod
    def join(answers: Sequence[Item]) -> Item:
        return [number for answer in answers for number in answer]


@dataclass
class Told:
    """Remembers reports."""

    reports: list[BatchReport] = field(default_factory=list)

    def batch_done(self, report: BatchReport) -> None:
        self.reports.append(report)


def soon() -> float:
    """Return a deadline that no test waits for."""
    return time.monotonic() + 20


async def held(calls: Doubling) -> None:
    """Wait until the engine's thread is inside the model."""
    await asyncio.to_thread(calls.entered.wait, 10)


def build(calls: Doubling, **limits: object) -> Batcher[Item, Item]:
    """Batch for a model, 8 rows at most unless the limits say otherwise."""
    return Batcher(calls, BatchLimits(**{"max_rows": 8, **limits}))  # type: ignore[arg-type]
