"""Several logs at once; each run of a container is read once."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from modelyard_cli.errors import CliError, NotFoundError, UnreachableError
from modelyard_cli.following import Follower
from modelyard_cli.log_sources import Source, choose_sources
from testkit.cli_objects import STABLE, Manifest, PreparedCluster, pod

RUNS: dict[str, Any] = {"state": {"running": {}}}
NAMES = [f"{STABLE}-5d8-aaaaa", f"{STABLE}-5d8-bbbbb"]
WAIT_S = 10


@dataclass
class Gated(PreparedCluster):
    """Its watch of pods ends when as many lines as expected were shown.

    Attributes:
        expected: How many.
        error: Raised instead of a log.
        shown: Pods and lines.
        done: As many were shown.
    """

    expected: int = 1
    error: CliError | None = None
    shown: list[tuple[str, str]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def show(self, source: Source, line: str) -> None:
        self.shown.append((source.pod, line))
        if len(self.shown) == self.expected:
            self.done.set()

    def watch_pods(self, _name: str) -> Iterator[Manifest]:
        yield from self.found_pods
        assert self.done.wait(WAIT_S)

    def log(self, pod: str, query: Mapping[str, str]) -> Iterator[str]:
        if self.error:
            raise self.error
        yield from super().log(pod, query)


def follow(cluster: Gated) -> None:
    def choose(found: Mapping[str, Any]) -> list[Source]:
        return choose_sources([found])

    prepared: Any = cluster
    Follower(prepared, "fraud", choose, {"tailLines": "5"}).follow(cluster.show)


def test_lines_of_all_pods_are_shown_and_a_pod_that_changes_is_not_read_twice() -> None:
    pods = [pod(name, STABLE, runtime=RUNS) for name in NAMES]
    lines = {NAMES[0]: ["a1", "a2"], NAMES[1]: ["b1"]}
    cluster = Gated(found_pods=[*pods, *pods], lines=lines, expected=3)
    follow(cluster)
    assert sorted(cluster.shown) == [(NAMES[0], "a1"), (NAMES[0], "a2"), (NAMES[1], "b1")]
    assert cluster.queries[0][1] == {"container": "runtime", "follow": "true", "tailLines": "5"}


def test_a_container_that_starts_again_is_read_again() -> None:
    first = pod(NAMES[0], STABLE, runtime=RUNS)
    second = pod(NAMES[0], STABLE, runtime=RUNS | {"restartCount": 1})
    cluster = Gated(found_pods=[first, second], lines={NAMES[0]: ["line"]}, expected=2)
    follow(cluster)
    assert cluster.shown == [(NAMES[0], "line")] * 2


def test_a_pod_that_is_gone_is_told() -> None:
    pods = [pod(NAMES[0], STABLE, runtime=RUNS)]
    cluster = Gated(found_pods=pods, error=NotFoundError("pods not found"))
    follow(cluster)
    assert cluster.shown == [(NAMES[0], "(pods not found)")]


def test_a_lost_cluster_ends_it() -> None:
    pods = [pod(NAMES[0], STABLE, runtime=RUNS)]
    cluster = Gated(found_pods=pods, error=UnreachableError("no network"))
    with pytest.raises(UnreachableError, match="no network"):
        follow(cluster)
    cluster.done.set()
