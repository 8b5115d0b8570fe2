"""What each revision's pods are told of a rollout."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modelyard_operator.resources.directives import Copies, Keepsake
from modelyard_operator.roles import Role, copy_token, role_of
from modelyard_operator.rollout.state import ACTIVE, PlannedStep, Rollout, RolloutState
from modelyard_operator.spec import ModelDeployment
from testkit.operator_objects import model_deployment, revision_of

SHADOW = {"shadow": {"percent": 20}}
KNOWS = ACTIVE | {RolloutState.ROLLING_BACK}
GOLDEN = {"verification": {"requests": [{"configMapName": "golden", "key": "verify.json"}]}}
ROLLOUT = Rollout(
    state=RolloutState.SHADOWING,
    id="fraud-b-1",
    stable="fraud-a",
    candidate="fraud-b",
    step=1,
    plan=(PlannedStep(weight=100, bake_seconds=0),),
    state_since=datetime(2026, 1, 1, tzinfo=UTC),
)


def role(owner: ModelDeployment, name: str, rollout: Rollout = ROLLOUT) -> Role:
    return role_of(owner, replace(revision_of(owner), name=name), rollout)


def test_stable_copies_to_the_candidate_who_knows_the_token() -> None:
    owner = model_deployment(rollout=SHADOW)
    token = copy_token(owner, ROLLOUT)
    assert role(owner, "fraud-a") == Role(copies=Copies(token, "http://fraud-b.ml.svc", 20))
    assert role(owner, "fraud-b") == Role(copies=Copies(token))


@pytest.mark.parametrize("state", sorted(KNOWS - {RolloutState.SHADOWING}))
def test_outside_the_comparison_the_candidate_alone_knows_the_token(state: RolloutState) -> None:
    owner = model_deployment(rollout=SHADOW)
    rollout = ROLLOUT.model_copy(update={"state": state})
    assert role(owner, "fraud-a", rollout) == Role()
    assert role(owner, "fraud-b", rollout) == Role(copies=Copies(copy_token(owner, rollout)))


@pytest.mark.parametrize("state", sorted(set(RolloutState) - KNOWS))
def test_outside_a_rollout_nobody_is_told_anything(state: RolloutState) -> None:
    owner = model_deployment(rollout=SHADOW)
    rollout = ROLLOUT.model_copy(update={"state": state})
    assert {role(owner, name, rollout) for name in ("fraud-a", "fraud-b")} == {Role()}


STICKY = {"stickiness": {"cookie": "kept"}}
DIVIDED = ROLLOUT.model_copy(update={"state": RolloutState.ANALYZING, "weight": 25})


def test_both_revisions_hold_their_clients_while_requests_are_divided() -> None:
    owner = model_deployment(rollout=STICKY)
    assert role(owner, "fraud-a", DIVIDED) == Role(keepsake=Keepsake("kept-b", "never"))
    assert role(owner, "fraud-b", DIVIDED) == Role(keepsake=Keepsake("kept-b", "always"))
    assert role(owner, "fraud-c", DIVIDED) == Role()
    assert role(model_deployment(), "fraud-b", DIVIDED) == Role()


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": 0},
        {"weight": 100},
        {"state": RolloutState.ROLLING_BACK},
        {"state": RolloutState.PROMOTING, "candidate": None},
    ],
)
def test_nobody_is_held_where_all_requests_go_one_way(changes: dict[str, object]) -> None:
    owner, rollout = model_deployment(rollout=STICKY), DIVIDED.model_copy(update=changes)
    assert {role(owner, name, rollout) for name in ("fraud-a", "fraud-b")} == {Role()}


def test_without_shadow_nothing_is_copied() -> None:
    assert role(model_deployment(), "fraud-a") == role(model_deployment(), "fraud-b") == Role()


def test_a_candidate_has_to_prove_itself_and_stable_must_come_up_again() -> None:
    owner = model_deployment(rollout=GOLDEN)
    assert role(owner, "fraud-a") == Role("Report")
    assert role(owner, "fraud-b") == Role("Gate")


def test_each_rollout_has_a_token_of_its_own() -> None:
    owner = model_deployment(rollout=SHADOW)
    again = ROLLOUT.model_copy(update={"id": "fraud-b-2"})
    assert copy_token(owner, ROLLOUT) != copy_token(owner, again)
