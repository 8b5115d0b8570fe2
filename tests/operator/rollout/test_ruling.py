"""What a verdict means for a step."""

from typing import Any

import pytest

from modelyard_operator.rollout.evidence import Evidence
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.ruling import Ruling, held_up, rule, unreadable
from modelyard_operator.rollout.state import Rollout, RolloutState
from testkit.operator_objects import NOW
from testkit.operator_rollout import ask_for

B = "fraud-b"
SILENT = Judgement(Verdict.INCONCLUSIVE, "NoTraffic")
FEW = Judgement(Verdict.UNDECIDED)
STEP = Rollout(state=RolloutState.ANALYZING, stable="fraud-a", candidate=B, weight=10)
GROUNDS = ("ErrorsRose", "40 of 200 failed")


@pytest.mark.parametrize(
    ("policy", "seen", "early", "late"),
    [
        ({}, None, "GoOn", "GoOn"),
        ({}, Judgement(Verdict.PASS), "GoOn", "GoOn"),
        ({}, Judgement(Verdict.FAIL), "Reject", "Reject"),
        ({}, Judgement(Verdict.ERROR), "Wait", "Wait"),
        ({"onNoTraffic": "Promote"}, SILENT, "GoOn", "GoOn"),
        ({"onNoTraffic": "Pause"}, SILENT, "NoTraffic", "NoTraffic"),
        ({"onInconclusive": "Pause"}, FEW, "Wait", "Inconclusive"),
        ({"onInconclusive": "Promote"}, FEW, "Wait", "GoOn"),
        ({"onInconclusive": "Rollback"}, FEW, "Wait", "Reject"),
    ],
)
def test_no_data_is_no_failure_and_a_pass_only_where_the_user_says_so(
    policy: dict[str, Any], seen: Judgement | None, early: str, late: str
) -> None:
    ask = ask_for(B, analysis=policy)
    assert rule(ask, seen, late=False) == Ruling(early)
    assert rule(ask, seen, late=True) == Ruling(late)


def test_a_ruling_is_carried_out() -> None:
    assert held_up(STEP, Ruling.GO_ON, GROUNDS, NOW) is None
    assert held_up(STEP, Ruling.WAIT, GROUNDS, NOW) is STEP
    back = held_up(STEP, Ruling.REJECT, GROUNDS, NOW)
    assert back is not None
    assert (back.state, back.rejected) == (RolloutState.ROLLING_BACK, (B,))
    assert back.last_rollback is not None
    assert (back.last_rollback.reason, back.last_rollback.message) == GROUNDS
    assert back.last_rollback.time == NOW


@pytest.mark.parametrize("ruling", [Ruling.INCONCLUSIVE, Ruling.NO_TRAFFIC])
def test_a_person_is_asked(ruling: Ruling) -> None:
    held = held_up(STEP, ruling, GROUNDS, NOW)
    assert held is not None
    assert (held.state, held.paused_reason, held.state_since) == (
        RolloutState.PAUSED,
        ruling.value,
        NOW,
    )


def test_a_source_that_is_silent_for_five_scrapes_is_unreadable() -> None:
    error = Judgement(Verdict.ERROR)
    silent = STEP.model_copy(update={"analysis": Evidence(errors=5)})
    assert unreadable(silent, error)
    assert not unreadable(silent, None)
    assert not unreadable(silent, FEW)
    assert not unreadable(STEP.model_copy(update={"analysis": Evidence(errors=4)}), error)
    assert not unreadable(STEP, error)
