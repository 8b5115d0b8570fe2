from datetime import timedelta
from typing import Any

import pytest

from modelyard_operator.inspection import RETRY, Inspection
from modelyard_operator.observed import Observed
from modelyard_operator.rollout.state import Rollout, RolloutState
from modelyard_operator.store import Key
from testkit.operator_objects import NOW, model_deployment, observe, pod
from testkit.operator_pods import AnsweringPod, AnsweringPods

KEY = Key("ml", "fraud")
WARMING = Rollout(state=RolloutState.WARMING, stable="old", candidate="new")
IDLE = Rollout(state=RolloutState.IDLE, stable="old")
VERIFIED: dict[str, Any] = {
    "verification": {"requests": [{"configMapName": "golden", "key": "verify.json"}]}
}
FAILED: dict[str, Any] = {"outcome": "Failed", "requests": 1, "problem": "y differs by 0.3"}


class Room:
    """A pod of each of two revisions, and somebody who asks them."""

    def __init__(self) -> None:
        self.pods = AnsweringPods()
        self.inspection = Inspection(self.pods)
        self.pods.pods = {"10.0.0.1": AnsweringPod("old"), "10.0.0.2": AnsweringPod("new")}

    def look(self, *, restarts: int = 0, ready: bool = True, **rollout: Any) -> Observed:
        status = [{"name": "runtime", "restartCount": restarts}]
        return observe(
            model_deployment(rollout=rollout),
            pod("old", "a", ready=True, podIP="10.0.0.1", containerStatuses=status),
            pod("new", "b", ready=ready, podIP="10.0.0.2"),
        )


@pytest.fixture
def room() -> Room:
    return Room()


async def test_alike_signatures_are_asked_for_once(room: Room) -> None:
    for _ in range(3):
        found = await room.inspection.inspect(KEY, room.look(), WARMING, NOW)
        assert (found.signature_change, found.signature_unknown, found.due) == (None, False, None)
    assert sorted(room.pods.asked) == [("10.0.0.1", "/status"), ("10.0.0.2", "/status")]


async def test_a_change_is_found(room: Room) -> None:
    room.pods.pods["10.0.0.2"].inputs = {"x": ("FP32", [-1, 31])}
    found = await room.inspection.inspect(KEY, room.look(), WARMING, NOW)
    assert found.signature_change == "input x was FP32 [-1, 30] and is FP32 [-1, 31]"


async def test_a_pod_that_does_not_answer_is_unknown_and_asked_again_in_time(room: Room) -> None:
    room.pods.pods["10.0.0.2"].answers = False
    found = await room.inspection.inspect(KEY, room.look(), WARMING, NOW)
    assert (found.signature_change, found.signature_unknown) == (None, True)
    assert found.due == NOW + RETRY
    asked = len(room.pods.asked)
    await room.inspection.inspect(KEY, room.look(), WARMING, NOW + timedelta(seconds=1))
    assert len(room.pods.asked) == asked
    room.pods.pods["10.0.0.2"].answers = True
    found = await room.inspection.inspect(KEY, room.look(), WARMING, NOW + RETRY)
    assert (found.signature_unknown, found.due) == (False, None)


async def test_what_does_not_parse_is_unknown(room: Room) -> None:
    room.pods.pods["10.0.0.2"].inputs = {"x": ("FP32", "many")}  # type: ignore[dict-item]
    found = await room.inspection.inspect(KEY, room.look(), WARMING, NOW)
    assert found.signature_unknown


@pytest.mark.parametrize("state", [RolloutState.ANALYZING, RolloutState.PROMOTING])
async def test_who_has_met_callers_is_not_compared(room: Room, state: RolloutState) -> None:
    rollout = WARMING.model_copy(update={"state": state})
    await room.inspection.inspect(KEY, room.look(), rollout, NOW)
    assert room.pods.asked == []


async def test_there_is_nothing_to_compare_before_both_are_ready(room: Room) -> None:
    found = await room.inspection.inspect(KEY, room.look(ready=False), WARMING, NOW)
    assert (found.signature_unknown, room.pods.asked) == (False, [])


async def test_a_later_pod_of_stable_that_disagrees_is_told(room: Room) -> None:
    found = await room.inspection.inspect(KEY, room.look(**VERIFIED), IDLE, NOW)
    assert found.unverified == {}
    room.pods.pods["10.0.0.1"].verification = FAILED
    found = await room.inspection.inspect(KEY, room.look(**VERIFIED), IDLE, NOW)
    assert found.unverified == {}, "the same process does not change its mind"
    found = await room.inspection.inspect(KEY, room.look(restarts=1, **VERIFIED), IDLE, NOW)
    assert found.unverified == {}, "a pod that has just been asked is asked again later"
    later = NOW + RETRY
    found = await room.inspection.inspect(KEY, room.look(restarts=1, **VERIFIED), IDLE, later)
    assert found.unverified == {"old": "y differs by 0.3"}
    assert len(room.inspection._known[KEY].pods) == 1, "processes that are gone are forgotten"


async def test_without_golden_requests_nobody_is_asked_at_rest(room: Room) -> None:
    await room.inspection.inspect(KEY, room.look(), IDLE, NOW)
    assert room.pods.asked == []
