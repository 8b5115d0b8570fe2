"""What a rollout writes into status is what the next pass reads."""

import json
from datetime import UTC, datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard_operator.rollout.evidence import Counts, Evidence, MetricEvidence
from modelyard_operator.rollout.judgement import Verdict
from modelyard_operator.rollout.state import (
    LastCommand,
    LastRollback,
    PlannedStep,
    Rollout,
    RolloutState,
    ShadowReport,
)

names = st.sampled_from(["fraud-a", "fraud-b", "fraud-c"])
words = st.text(max_size=20)
counts = st.integers(0, 3)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
steps = st.builds(
    PlannedStep,
    weight=st.integers(1, 100),
    bake_seconds=counts,
    max_seconds=counts,
    pause=st.sampled_from([None, "Manual"]),
)
answers = st.builds(Counts, n=counts, bad=counts)
metrics = st.builds(
    MetricEvidence,
    metric=words,
    stable=answers,
    candidate=answers,
    log_e=st.lists(st.integers(-9, 9).map(float), max_size=5).map(tuple),
    limit_e_value=st.none() | st.just("0.5"),
    breaches=counts,
    verdict=st.sampled_from(Verdict),
)
rollouts = st.builds(
    Rollout,
    state=st.sampled_from(RolloutState),
    id=st.none() | words,
    stable=st.none() | names,
    candidate=st.none() | names,
    previous=st.none() | names,
    weight=st.integers(0, 100),
    step=counts,
    plan=st.lists(steps, max_size=2).map(tuple),
    state_since=st.none() | moments,
    next_step_time=st.none() | moments,
    deadline_time=st.none() | moments,
    step_deadline_time=st.none() | moments,
    initial_replicas=st.none() | counts,
    given_up=counts,
    room_for=counts,
    remaining=st.none() | counts,
    paused_reason=st.sampled_from([None, "Spec", "Freeze"]),
    held=st.booleans(),
    forced=st.booleans(),
    pinned=st.none() | names,
    fallback=st.none() | names,
    promoted=st.lists(names, max_size=2).map(tuple),
    rejected=st.lists(names, max_size=2).map(tuple),
    last_rollback=st.none()
    | st.builds(LastRollback, revision=names, reason=words, message=words, time=moments),
    last_command=st.none()
    | st.builds(
        LastCommand, id=words, verb=words, revision=names, result=words, time=moments
    ),
    analysis=st.none()
    | st.builds(
        Evidence,
        revision=st.just("") | names,
        step=counts,
        window_start=st.none() | moments,
        errors=counts,
        metrics=st.lists(metrics, max_size=2).map(tuple),
    ),
    shadow=st.none() | st.builds(ShadowReport, samples=counts, agreement=st.none() | st.just(0.5)),
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is slow
@given(rollouts)
def test_it_reads_back_as_it_was_written(rollout: Rollout) -> None:
    status = {"rollout": rollout.to_status()}
    for role, revision in (("stable", rollout.stable), ("candidate", rollout.candidate)):
        if revision:
            status[role] = {"revision": revision}
    assert Rollout.from_status(json.loads(json.dumps(status))) == rollout


def test_what_has_a_place_of_its_own_or_no_value_is_left_out() -> None:
    assert Rollout(stable="fraud-a", candidate="fraud-b").to_status() == {"state": "Initializing"}
    step = PlannedStep(weight=5, bake_seconds=0, max_seconds=9)
    assert Rollout(plan=(step,)).to_status()["plan"] == [
        {"weight": 5, "bakeSeconds": 0, "maxSeconds": 9}
    ]


def test_what_is_at_its_default_is_left_out() -> None:
    assert Rollout().to_status() == {"state": "Initializing"}
    assert Rollout(initial_replicas=0, weight=0).to_status() == {
        "state": "Initializing",
        "initialReplicas": 0,
    }
