"""Pauses and commands: a person decides, and nothing that is said twice counts twice."""

from typing import Any

import pytest

from testkit.cluster_api import Manifest, revision_of, state_of
from testkit.cluster_lab import Lab, Served

pytestmark = [pytest.mark.cluster, pytest.mark.together]


def _paused(reason: str) -> Any:
    return lambda seen: seen["status"]["rollout"].get("pausedReason") == reason


def _told(served: Served, text: str) -> Manifest:
    """Give a command, and return the status that records it."""
    served.command(text)
    wanted = text.rpartition("#")[2]

    def records(seen: Manifest) -> bool:
        return bool(seen["status"]["rollout"].get("lastCommand", {}).get("id") == wanted)

    return served.until(records)


def _result(seen: Manifest) -> str:
    return str(seen["status"]["rollout"]["lastCommand"]["result"])


def test_a_rollout_waits_for_a_person_and_takes_each_command_once(lab: Lab) -> None:
    with lab.bench("commands") as bench:
        steps = [{"weight": 30, "pause": "Manual"}, {"weight": 100}]
        served = bench.serve("fraud", rollout={"steps": steps})
        stable = revision_of(served.until_ready(), "stable")

        served.until_answered()
        served.edit_to(2, rollout={"paused": True})
        candidate = revision_of(served.until(_paused("Spec")), "candidate")
        assert {served.route.ask().revision for _ in range(10)} == {stable}
        refused = _told(served, f"promote@{candidate}#1")
        assert _result(refused).startswith("Refused")
        assert state_of(refused) == "Paused"

        served.edit(rollout={"paused": False})
        served.until(_paused("Step"))
        assert {served.route.ask().revision for _ in range(30)} == {stable, candidate}
        ignored = _told(served, f"promote@{stable}#2")
        assert _result(ignored).startswith("Ignored")
        assert _paused("Step")(ignored)

        assert _result(_told(served, f"pause@{candidate}#3")) == "Accepted"
        assert _result(_told(served, f"resume@{candidate}#4")) == "Accepted"
        assert _result(_told(served, f"pause@{candidate}#5")) == "Accepted"
        held = served.until(_paused("Command"))
        served.command(f"resume@{candidate}#5")  # a known id: a replay
        seen = served.edit(exposure={"timeoutSeconds": 60})  # makes the operator look again
        generation = seen["metadata"]["generation"]
        replayed = served.until(lambda one: one["status"]["observedGeneration"] == generation)
        assert _paused("Command")(replayed)
        last = held["status"]["rollout"]["lastCommand"]
        assert replayed["status"]["rollout"]["lastCommand"] == last

        _told(served, f"resume@{candidate}#6")
        assert revision_of(served.until_ready(), "stable") == candidate
        late = _told(served, f"promote@{candidate}#7")
        assert _result(late) == "Ignored: no rollout is under way"
        assert served.route.version() == 2
