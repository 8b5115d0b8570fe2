"""Which revision a command names, and how its outcome is told."""

import pytest

from modelyard_cli import steering
from modelyard_cli.errors import NoRolloutError
from modelyard_cli.view import View
from modelyard_operator.rollout.commands import COMMAND
from testkit.cli_objects import CANDIDATE, PREVIOUS, STABLE, model_deployment, rolling


def test_the_operator_reads_what_is_written() -> None:
    command_id = steering.make_id()
    match = COMMAND.fullmatch(steering.text("promote-full", CANDIDATE, command_id))
    assert match is not None
    assert match.groupdict() == {"verb": "promote-full", "revision": CANDIDATE, "id": command_id}


def test_no_two_commands_share_an_id() -> None:
    assert len({steering.make_id() for _ in range(1000)}) == 1000


def test_a_command_names_the_candidate() -> None:
    assert steering.candidate_of(View.of(rolling("Analyzing")), "promote") == CANDIDATE
    with pytest.raises(NoRolloutError, match="nothing to abort: no rollout of fraud is under way"):
        steering.candidate_of(View.of(model_deployment()), "abort")


def test_abort_names_what_is_on_its_way_or_on_probation() -> None:
    assert steering.leaving_of(View.of(rolling("Analyzing"))) == CANDIDATE
    probation = View.of(model_deployment(rollout={"state": "Probation", "previous": PREVIOUS}))
    assert steering.leaving_of(probation) == STABLE
    with pytest.raises(NoRolloutError):
        steering.leaving_of(View.of(model_deployment(rollout={"state": "Probation"})))


def test_retry_names_what_was_rejected_last() -> None:
    rejected = View.of(rolling("RolledBack", rejected=["fraud-1", CANDIDATE]))
    assert steering.rejected_of(rejected) == CANDIDATE
    last = {"revision": "fraud-1"}
    both = View.of(rolling("RolledBack", rejected=["fraud-1", CANDIDATE], lastRollback=last))
    assert steering.rejected_of(both) == "fraud-1"
    forgiven = View.of(rolling("Idle", rejected=[CANDIDATE], lastRollback=last))
    assert steering.rejected_of(forgiven) == CANDIDATE
    assert steering.rejected_of(View.of(rolling("Unavailable"))) == CANDIDATE
    with pytest.raises(NoRolloutError, match="no revision of fraud was rejected"):
        steering.rejected_of(View.of(model_deployment()))


def test_rollback_names_what_was_stable_before() -> None:
    assert steering.earlier_of(View.of(rolling("Probation", previous=PREVIOUS))) == PREVIOUS
    assert steering.earlier_of(View.of(rolling("Idle", fallback=PREVIOUS))) == PREVIOUS
    assert steering.earlier_of(View.of(rolling("Idle", promoted=[PREVIOUS, STABLE]))) == PREVIOUS
    with pytest.raises(NoRolloutError, match=f"stable before {STABLE}"):
        steering.earlier_of(View.of(model_deployment()))


def test_only_the_same_command_is_an_answer() -> None:
    last = {"id": "a1", "verb": "pause", "revision": CANDIDATE, "result": "Accepted"}
    view = View.of(rolling("Paused", lastCommand=last))
    found = steering.outcome(view, "a1")
    assert found is not None
    assert found.result == steering.ACCEPTED
    assert steering.outcome(view, "a2") is None
    assert steering.outcome(View.of(model_deployment()), "a1") is None
