"""The live view at a terminal: drawn at each change and each tick, until the object is gone."""

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from modelyard_cli.commands import look
from modelyard_cli.errors import NotFoundError
from modelyard_cli.session import Session
from testkit.cli_objects import Manifest, PreparedCluster, model_deployment, rolling

WAIT_S = 10


@dataclass
class Gated(PreparedCluster):
    """Its watch goes on when what came so far was drawn twice: for the change, and for a tick."""

    drawn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def watch(self, _name: str) -> Iterator[Manifest | None]:
        for manifest in self.objects:
            yield manifest
            assert self.drawn.acquire(timeout=WAIT_S)
            assert self.drawn.acquire(timeout=WAIT_S)
        yield None

    def pods(self, name: str) -> list[Manifest]:
        self.drawn.release()
        return super().pods(name)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, height=60, color_system=None)
    monkeypatch.setattr(Session, "console", console)
    monkeypatch.setattr(look, "TICK_S", 0.01)
    return file


def test_it_is_drawn_at_each_change_and_tick(
    monkeypatch: pytest.MonkeyPatch, screen: io.StringIO
) -> None:
    cluster = Gated(objects=[rolling("Warming"), rolling("Analyzing"), model_deployment()])
    monkeypatch.setattr(Session, "cluster", cluster)
    look.status(Session(), "fraud", watch=True)
    drawn = screen.getvalue()
    assert drawn.index("Warming · step") < drawn.index("Analyzing · step") < drawn.index("✔ Ready")
    assert drawn.count("Warming · step") > 1, "ages go on while nothing changes"


def test_an_object_that_does_not_exist_ends_it(
    monkeypatch: pytest.MonkeyPatch, screen: io.StringIO
) -> None:
    class Missing(PreparedCluster):
        def watch(self, _name: str) -> Iterator[Manifest | None]:
            raise NotFoundError("fraud not found")

    monkeypatch.setattr(Session, "cluster", Missing())
    with pytest.raises(NotFoundError, match="fraud not found"):
        look.status(Session(), "fraud", watch=True)
    assert "fraud" not in screen.getvalue()
