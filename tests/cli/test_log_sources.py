"""Which container of a pod is read."""

from typing import Any

from modelyard_cli.log_sources import Source, choose_sources
from testkit.cli_objects import CANDIDATE, STABLE, pod

RUNS: dict[str, Any] = {"state": {"running": {}}}
ENDED = {"state": {"terminated": {"exitCode": 1}}}
WAITS = {"state": {"waiting": {"reason": "PodInitializing"}}}
LOOPS = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 2}
DONE = {"state": {"terminated": {"exitCode": 0}}}

SERVING = pod(f"{STABLE}-5d8-abcde", STABLE, init=DONE, runtime=RUNS)
FETCHING = pod(f"{CANDIDATE}-6c9-fghij", CANDIDATE, init=RUNS, runtime=WAITS)
NEW = pod(f"{CANDIDATE}-6c9-klmno", CANDIDATE, init=WAITS, runtime=WAITS)
LOOPING = pod(f"{CANDIDATE}-6c9-pqrst", CANDIDATE, init=DONE, runtime=LOOPS)
CRASHED = pod(f"{CANDIDATE}-6c9-uvwxy", CANDIDATE, init=ENDED, runtime=WAITS)


def test_the_runtime_speaks_once_it_has_run_before_that_the_fetcher() -> None:
    found = choose_sources([NEW, FETCHING, SERVING])
    assert [(source.pod[-5:], source.container) for source in found] == [
        ("abcde", "runtime"),
        ("fghij", "model-fetch"),
    ]
    assert [source.prefix for source in found] == [
        f"{STABLE}/abcde",
        f"{CANDIDATE}/fghij/model-fetch",
    ]


def test_a_revision_and_a_container_can_be_chosen() -> None:
    pods = [SERVING, FETCHING]
    assert [one.revision for one in choose_sources(pods, revision=CANDIDATE)] == [CANDIDATE]
    (fetcher,) = choose_sources(pods, container="model-fetch", revision=STABLE)
    assert fetcher.container == "model-fetch"
    assert choose_sources([FETCHING], container="runtime") == []


def test_the_run_before_is_read_where_there_is_one() -> None:
    found = choose_sources([SERVING, LOOPING, CRASHED, NEW], previous=True)
    assert found == [
        Source(LOOPING["metadata"]["name"], "runtime", CANDIDATE, run=2, previous=True),
        Source(CRASHED["metadata"]["name"], "model-fetch", CANDIDATE, run=0, previous=False),
    ], "a container that has ended once and was not started again has no run before"
