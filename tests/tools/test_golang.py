"""What a run removes of the compiler's files, and what it must leave to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localcluster import golang
from localcluster.paths import Cache

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache in which something was compiled."""
    for part in ("build", "mod"):
        (tmp_path / "go" / part).mkdir(parents=True)
    return Cache(tmp_path)


def test_only_what_a_compiler_needs_is_removed(cache: Cache) -> None:
    golang.tidy(cache)
    assert [path.name for path in cache.go.iterdir()] == ["mod"]


def test_what_another_run_compiles_with_is_left_to_it(cache: Cache) -> None:
    with cache.lock(golang.COMPILER):
        golang.tidy(cache)
        assert (cache.go / "build").is_dir()
    golang.tidy(cache)
    assert not (cache.go / "build").exists()
