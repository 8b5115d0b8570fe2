"""One model's rollout behind each proxy: who gets which requests, and that none of them is lost."""

import os
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

import pytest

from testkit.cluster_api import Manifest, revision_of
from testkit.cluster_lab import Lab, Served
from testkit.cluster_proxies import WITH_GENERIC, Profile, Stream, ask_many, likely
from testkit.cluster_traffic import OK, Load, Route
from testkit.proofs import proves

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

CHAOS: Final = os.environ.get("MODELYARD_CHAOS") == "1"
REQUESTS: Final = 2_000
SPLITS: Final = (1, 10, 50)
MANY: Final = tuple(range(55, 100, 5))
"""Weights that follow: with the splits and the promotion there are more than ten changes."""
HEADER: Final = {"X-Canary": "always"}
PINNED: Final = 100
HELD: Final[Any] = {"pause": "Manual"}
STEPS: Final = [
    *({"weight": weight, **HELD} for weight in SPLITS),
    *({"weight": weight} for weight in MANY[:-1]),
    {"weight": MANY[-1], **HELD},
    {"weight": 100},
]
ROLLOUT: Final = {
    "steps": STEPS,
    "bakeSeconds": 8 if CHAOS else 0,
    "match": [{"header": {"name": "X-Canary", "value": "always"}}],
}
STREAM: Final[Any] = {"parts": 10_000, "pause_s": 0.5}
"""Longer than any rollout here: its reader leaves when it has seen enough."""
LASTS_S: Final = 90 if CHAOS else 40
"""What it has seen by then, through more than ten changes, in seconds."""


@proves("rollout.steps", "rollout.match[].header")
@pytest.mark.parametrize("profile", WITH_GENERIC, ids=str)
def test_a_rollout_divides_requests_and_cuts_no_stream(
    lab: Lab, figures: dict[str, object], profile: Profile
) -> None:
    with profile.bench(lab, "splitting") as bench, ExitStack() as streams:
        served = profile.serve(bench, "fraud", rollout=ROLLOUT)
        other = profile.serve(bench, "other")
        for one in (served, other):
            one.until_answered()
        stable = revision_of(served.edit_to(2), "stable")
        pinned = replace(served.route, headers=HEADER)
        counts = {}
        opened: list[Stream] = []
        load = streams.enter_context(Load(served.route, threads=2))
        for weight in SPLITS:
            candidate = _until_held(served, weight)
            counts[weight] = ask_many(served.route, REQUESTS)
            if not opened:
                assert ask_many(pinned, PINNED) == {candidate: PINNED}
                opened = [_open(streams, served.route, stable), _open(streams, pinned, candidate)]
                testers = streams.enter_context(Load(pinned, threads=2))
            if weight == SPLITS[-1]:
                assert ask_many(other.route, PINNED).keys() == {revision_of(other.get(), "stable")}
                assert replace(served.route, host=bench.host("nobody")).ask().status != OK
            served.command(f"resume@{candidate}#{weight}")

        _until_held(served, MANY[-1])
        assert all(stream.flows for stream in opened), [*map(str, opened)]
        assert all(stream.lasted_s > LASTS_S for stream in opened)
        on_stable, on_candidate = opened
        on_stable.close()  # stable ends with the rollout, and so would this
        served.command(f"resume@{candidate}#{MANY[-1]}")
        assert revision_of(served.until_ready(), "stable") == candidate
        load.until_answered_by(candidate)
        assert on_candidate.flows, str(on_candidate)
        assert load.failed == []
        assert testers.failed == []
        assert {one.revision for one in testers.samples} == {candidate}

    figures[f"{profile}: candidate's requests of {REQUESTS}"] = {
        f"{weight} %": count[candidate] for weight, count in counts.items()
    }
    for weight, count in counts.items():
        assert count.keys() <= {stable, candidate}
        assert count[candidate] in likely(REQUESTS, weight), (weight, count)


def _until_held(served: Served, weight: int) -> str:
    """Wait until a person is asked at this weight, by when the proxy has it; return the candidate."""

    def held(seen: Manifest) -> bool:
        rollout = seen["status"]["rollout"]
        return rollout.get("pausedReason") == "Step" and bool(rollout["weight"] == weight)

    return revision_of(served.until(held), "candidate")


def _open(streams: ExitStack, route: Route, revision: str) -> Stream:
    """Open a stream of one revision; some of the first may be the other's."""
    while True:
        stream = streams.enter_context(Stream(route, **STREAM))
        if stream.revision == revision:
            return stream
        stream.close()
