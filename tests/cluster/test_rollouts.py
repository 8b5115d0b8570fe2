"""Rollouts in a row that lose no request, and rollouts that have to share the last device."""

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import pytest

from testkit.cluster_api import Manifest, condition, revision_of, state_of
from testkit.cluster_lab import Lab, Served
from testkit.cluster_traffic import Load

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

CHAOS: Final = os.environ.get("MODELYARD_CHAOS") == "1"
ROLLOUTS: Final = 20 if CHAOS else 3
REQUESTS: Final = 100_000 if CHAOS else 1_000
THREADS: Final = 16 if CHAOS else 8


class Journey:
    """Rollouts of one model, one after the other.

    Attributes:
        served: The ModelDeployment.
        rollouts: How many have begun.
    """

    def __init__(self, served: Served) -> None:
        self.served = served
        self.rollouts = 0
        self._commands = 0

    @property
    def stable(self) -> str:
        return revision_of(self.served.get(), "stable")

    def promote(self) -> None:
        """An edit that goes through."""
        self._edit()
        self.served.until_ready()

    def switch_at_once(self) -> None:
        """An edit that takes all of the requests over in one step."""
        self._edit(rollout={"strategy": "BlueGreen"})
        self.served.until_ready()
        self.served.edit(rollout={"strategy": "Canary"})

    def abort(self) -> None:
        """An edit that a person takes back half-way."""
        stable, candidate = self.stable, self._begin()
        self._command("abort", candidate)
        ended = self.served.until(lambda seen: state_of(seen) == "RolledBack")
        assert revision_of(ended, "stable") == stable
        assert ended["status"]["rollout"]["lastRollback"]["reason"] == "Aborted"

    def change_course(self) -> None:
        """An edit that another one overtakes."""
        stable, overtaken = self.stable, self._begin()
        self._edit()
        final = self.served.until_ready()
        assert revision_of(final, "stable") not in {stable, overtaken}
        assert self.served.pods(overtaken) == []

    def roll_back(self) -> None:
        """A command that leads back to the revision before."""
        *_, target, stable = self.served.get()["status"]["rollout"]["promoted"]
        self.rollouts += 1
        self._command("rollback-to", target)

        def serves(seen: Manifest) -> bool:
            return revision_of(seen, "stable") == target and state_of(seen) == "RolledBack"

        assert stable in self.served.until(serves)["status"]["rollout"]["rejected"]

    def _edit(self, **spec: Any) -> None:
        self.rollouts += 1
        self.served.edit(model={"version": f"{self.rollouts + 1}"}, **spec)

    def _begin(self) -> str:
        """Edit, and return the candidate as soon as it answers half of the requests."""
        before = self.served.get()["metadata"]["generation"]
        self._edit()

        def half_way(seen: Manifest) -> bool:
            is_new = seen["status"]["observedGeneration"] > before
            return is_new and state_of(seen) == "Analyzing"

        return revision_of(self.served.until(half_way), "candidate")

    def _command(self, verb: str, revision: str) -> None:
        self._commands += 1
        self.served.command(f"{verb}@{revision}#{self._commands}")


def test_rollouts_in_a_row_lose_no_request(lab: Lab, figures: dict[str, object]) -> None:
    with lab.bench("in-a-row") as bench:
        served = bench.serve("fraud", replicas=2)
        served.until_ready()
        served.until_answered()
        journey = Journey(served)
        legs: tuple[Callable[[], None], ...] = (
            journey.promote, journey.switch_at_once, journey.abort, journey.change_course,
            journey.roll_back,
        )  # fmt: skip
        with Load(served.route, threads=THREADS, pause_s=0.05) as load:
            while journey.rollouts < ROLLOUTS or len(load.samples) < REQUESTS:
                for leg in legs:
                    leg()
        figures["requests during rollouts in a row"] = f"{len(load.samples)} in {journey.rollouts}"
        assert load.failed == []
        assert len({sample.revision for sample in load.samples}) > ROLLOUTS // 2


@contextmanager
def _devices(lab: Lab, count: int) -> Iterator[str]:
    """Let one node have some devices of a kind of their own, as an administrator would.

    References:
        https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/
    """
    node = next(one for one in lab.api.all("Node", "") if "taints" not in one["spec"])
    name, resource = node["metadata"]["name"], f"example.com/gpu-{uuid.uuid4().hex[:5]}"

    def offer(value: str | None) -> None:
        body = {"status": {part: {resource: value} for part in ("capacity", "allocatable")}}
        lab.api.patch("Node", "", name, body, subresource="status")

    offer(str(count))
    try:
        yield resource
    finally:
        offer(None)


def _on_device(resource: str, **rollout: Any) -> dict[str, Any]:
    return {
        "accelerator": {"resourceName": resource},
        "rollout": rollout,
    }


@pytest.mark.parametrize(
    "rollout",
    [{"strategy": "Recreate"}, {"capacity": {"mode": "Recreate"}}, {"capacity": {"mode": "Exchange"}}],
    ids=["Recreate", "capacity Recreate", "capacity Exchange"],
)  # fmt: skip
def test_an_edit_on_the_only_device_finishes(lab: Lab, rollout: dict[str, Any]) -> None:
    with _devices(lab, 1) as resource, lab.bench("one-device") as bench:
        served = bench.serve("fraud", **_on_device(resource, **rollout))
        served.until_ready()
        served.until_answered()
        served.edit_to(2)
        served.until_ready()
        served.until_answered()
        assert served.route.version() == 2


def test_without_leave_to_be_down_the_only_device_is_kept(lab: Lab) -> None:
    with _devices(lab, 1) as resource, lab.bench("kept-device") as bench:
        spec = _on_device(resource, capacity={"waitSeconds": 10})
        served = bench.serve("fraud", **spec)
        stable = revision_of(served.until_ready(), "stable")
        served.until_answered()
        with Load(served.route) as load:
            served.edit_to(2)
            waiting = served.until(lambda seen: state_of(seen) == "WaitingCapacity")
            ended = served.until(lambda seen: state_of(seen) == "RolledBack")
        assert load.failed == []
        room = condition(waiting, "CapacityAvailable")
        assert f"needs 1 {resource}, 0 free of 1" in room["message"]
        assert ended["status"]["rollout"]["lastRollback"]["reason"] == "InsufficientCapacity"
        assert revision_of(ended, "stable") == stable


def test_two_that_want_the_last_device_take_turns(lab: Lab) -> None:
    with _devices(lab, 3) as resource, lab.bench("last-device") as bench:
        spec = _on_device(resource)
        rivals = [bench.serve(name, **spec) for name in ("left", "right")]
        for rival in rivals:
            rival.until_ready()
            rival.until_answered()
        with (
            ThreadPoolExecutor(2) as threads,
            Load(rivals[0].route) as one,
            Load(rivals[1].route) as other,
        ):
            list(threads.map(lambda rival: rival.edit_to(2), rivals))
            list(threads.map(Served.until_ready, rivals))
        assert one.failed == []
        assert other.failed == []
        assert [rival.route.version() for rival in rivals] == [2, 2]
