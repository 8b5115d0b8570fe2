"""Each state of a rollout is a paragraph that says what is waited for, and what to run next."""

import ast
import re
from pathlib import Path
from typing import Any, get_args

import pytest

import modelyard_operator
from modelyard_cli.advice import ADVICE
from modelyard_cli.advice.rejections import advise_rejection
from modelyard_cli.explain import explain
from modelyard_cli.explanation import Explanation
from modelyard_cli.pauses import PAUSES
from modelyard_cli.rollout_states import STATES
from modelyard_operator.rollout.state import Rollout, RolloutState
from testkit.cli_objects import (
    CANDIDATE,
    FIGURES,
    PREVIOUS,
    STABLE,
    arm,
    at,
    condition,
    model_deployment,
    rolling,
    seen,
)

OPERATOR = Path(modelyard_operator.__file__).parent
NO_REJECTION = {"Baking", "Passed", "NoMetrics", "ShadowAgrees", "SourceUnreachable"}
"""Reasons of verdicts that never take a revision back."""
TELLS_A_REASON = {"rolled_back", "returned", "rejected", "Judgement"}
WRITTEN_STATES = sorted(set(RolloutState) - {RolloutState.IDLE})


def _pause_reasons(annotation: Any) -> set[str]:
    found: set[str] = set()
    for inner in get_args(annotation):
        found |= {inner} if isinstance(inner, str) else _pause_reasons(inner)
    return found


WRITTEN_PAUSES = sorted(_pause_reasons(Rollout.model_fields["paused_reason"].annotation))


@pytest.mark.parametrize("state", WRITTEN_STATES)
def test_every_state_of_the_machine_is_explained(state: str) -> None:
    assert state in STATES, f"explain has only generic words for {state}"
    told = explain(seen(rolling(state, pausedReason="Step", analysis=FIGURES, previous=PREVIOUS)))
    assert told.text.endswith(".")
    assert ".." not in told.text
    assert STABLE in told.text or CANDIDATE in told.text
    assert told.steps


@pytest.mark.parametrize("reason", WRITTEN_PAUSES)
def test_every_kind_of_pause_is_explained(reason: str) -> None:
    assert reason in PAUSES, f"explain has only generic words for a pause of kind {reason}"
    told = explain(seen(rolling("Paused", pausedReason=reason, analysis=FIGURES)))
    assert told.reason == f"Paused/{reason}"
    assert told.text.startswith(f"The rollout of {CANDIDATE} is paused at 25 % (step 2 of 4): ")
    assert told.text.endswith(f"{STABLE} answers 75 % of the requests.")
    assert len(told.steps) > 1
    assert any("abort" in step.command for step in told.steps)


def test_an_unknown_state_and_pause_are_told_in_the_operators_words() -> None:
    manifest = rolling("Pondering")
    manifest["status"]["conditions"].append(condition("Progressing", "True", "x", "it ponders"))
    assert explain(seen(manifest)).text == (
        f"The rollout of {CANDIDATE} is in state Pondering: it ponders."
    )
    manifest = rolling("Paused", pausedReason="Moon")
    manifest["status"]["conditions"].append(condition("Progressing", "True", "x", "it is full"))
    assert "(step 2 of 4): Moon: it is full." in explain(seen(manifest)).text


def test_analyzing_shows_the_figures_of_both_arms() -> None:
    told = explain(seen(rolling("Analyzing", analysis=FIGURES, nextStepTime=at(48))))
    assert f"Step 2 of 4: 25 % of the requests go to {CANDIDATE} since 4 min" in told.text
    assert (
        "errors: 61 of 310 (19.7 %) on the candidate, 3 of 1,200 (0.25 %) on stable, "
        "e-value 2.12e+05, against max 3.25: Fail." in told.text
    )
    assert "The step can end in 48 s." in told.text


def test_analyzing_without_figures_says_so() -> None:
    assert "There are no figures yet." in explain(seen(rolling("Analyzing"))).text
    silent = {"metrics": [{"metric": "errors", "eValue": "1"}]}
    told = explain(seen(rolling("Analyzing", analysis=silent)))
    assert "Neither revision has seen a request so far." in told.text
    told = explain(seen(rolling("Analyzing", analysis={"errors": 3})))
    assert "The figures could not be read (3 times in a row)" in told.text


def test_waiting_for_capacity_shows_what_is_short_and_what_happens_in_the_end() -> None:
    manifest = rolling("WaitingCapacity", nextStepTime=at(900))
    short = "needs 1 nvidia.com/gpu, 0 free of 2"
    manifest["status"]["conditions"].append(
        condition("CapacityAvailable", "False", "NoRoom", short)
    )
    told = explain(seen(manifest))
    assert f"{CANDIDATE} waits for room in the cluster: {short}." in told.text
    assert "it is taken back in 15 min." in told.text
    assert told.steps[0].command == "kubectl describe nodes"
    manifest["status"]["failure"] = {"reason": "InsufficientAccelerator", "message": short}
    told = explain(seen(manifest))
    assert told.reason == "InsufficientAccelerator"
    assert "it is taken back in 15 min." in told.text


def test_a_rejected_revision_is_told_with_its_evidence_and_how_to_try_again() -> None:
    last = {
        "revision": CANDIDATE,
        "reason": "AnalysisFailed",
        "message": "errors: 61 of 310 (e-value 2.1e5) since 12:00:00",
        "time": at(-300),
    }
    manifest = rolling("RolledBack", rejected=[CANDIDATE], lastRollback=last, weight=0)
    manifest["status"]["stable"] = arm(STABLE, "7", 100)
    del manifest["status"]["candidate"]
    told = explain(seen(manifest))
    assert told.text.startswith(
        f"{CANDIDATE} was taken back 5 min ago (AnalysisFailed): errors: 61"
    )
    assert f"{STABLE} answers all requests." in told.text
    assert "The evidence against it reached its bound." in told.text
    commands = [step.command for step in told.steps]
    assert commands[0] == f"kubectl modelyard diff fraud {STABLE} {CANDIDATE} -n serving"
    assert commands[1] == "kubectl modelyard retry fraud -n serving"


def rejected(reason: str, message: str = "the grounds") -> Explanation:
    last = {"revision": CANDIDATE, "reason": reason, "message": message}
    manifest = rolling("RolledBack", rejected=[CANDIDATE], lastRollback=last)
    del manifest["status"]["candidate"]
    return explain(seen(manifest))


def reasons_of_the_machine() -> set[str]:
    """Second words of rollbacks, and reasons of judgements, in the operator's source."""
    found: set[str] = set()
    for path in (
        path for room in ("rollout", "analysis") for path in (OPERATOR / room).glob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in TELLS_A_REASON:
                words = (ast.unparse(word).strip("'\"") for word in node.args)
                found |= {word for word in words if re.fullmatch(r"[A-Z][a-zA-Z]+", word)}
    return found - NO_REJECTION


@pytest.mark.parametrize("reason", sorted(reasons_of_the_machine()))
def test_every_reason_of_a_rollback_is_explained(reason: str) -> None:
    assert advise_rejection(reason) or reason in ADVICE, f"{reason} is missing in rejections.py"
    told = rejected(reason)
    assert told.reason == reason
    assert told.text.startswith(f"{CANDIDATE} was taken back ({reason}): the grounds. ")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("ErrorsWorse", "It did worse than stable on the same traffic"),
        ("SlowAboveMax", "It is above the limit that the metric declares"),
        ("InvalidArtifact", ADVICE["InvalidArtifact"].fix),
        ("OutOfMemory", ADVICE["OutOfMemory"].meaning),
    ],
)
def test_a_metric_and_a_failure_are_explained_after_the_rollback(reason: str, words: str) -> None:
    assert words in rejected(reason).text


def test_after_a_rollback_no_command_asks_pods_that_are_gone() -> None:
    assert "patch mdep/fraud" in rejected("OutOfMemory").steps[0].command
    assert "modelyard diff" in rejected("InvalidArtifact").steps[0].command


@pytest.mark.parametrize("state", ["Idle", "RolledBack", "Probation"])
def test_an_edit_in_a_freeze_window_waits(state: str) -> None:
    rollout = {"state": state, "pausedReason": "Freeze", "nextStepTime": at(7200)}
    told = explain(seen(model_deployment(rollout=rollout)))
    assert told.reason == "Frozen"
    assert "The last edit waits to be rolled out: a freeze window" in told.text
    assert "it ends in 2 h and the rollout goes on by itself." in told.text
    assert f"{STABLE} answers all requests." in told.text


def test_shadowing_shows_agreement() -> None:
    shadow = {"samples": 420, "agreement": "0.9881"}
    spec = {"rollout": {"shadow": {"minSamples": 500}}}
    told = explain(seen(rolling("Shadowing", spec, shadow=shadow)))
    assert "420 answers were compared, 98.8 % of them agree. 500 are needed." in told.text


def test_where_stable_sees_nothing_the_figures_stand_alone() -> None:
    alone = {"metrics": [{"metric": "errors", "candidate": {"n": 100, "bad": 1}, "eValue": "1"}]}
    told = explain(seen(rolling("Probation", previous=PREVIOUS, analysis=alone)))
    assert "errors: 1 of 100 (1.0 %), with nothing on stable to compare, e-value 1" in told.text


def test_probation_tells_where_traffic_would_return() -> None:
    told = explain(seen(rolling("Probation", previous=PREVIOUS, nextStepTime=at(600))))
    assert f"{PREVIOUS} is kept warm" in told.text
    assert "ends in 10 min" in told.text
    assert told.steps[0].command == "kubectl modelyard rollback fraud -n serving"


def test_a_rollback_of_what_was_promoted_names_where_traffic_goes() -> None:
    last = {"revision": STABLE, "reason": "Aborted", "message": "aborted by command"}
    manifest = rolling("RollingBack", previous=PREVIOUS, lastRollback=last)
    del manifest["status"]["candidate"]
    told = explain(seen(manifest))
    assert told.reason == "Aborted"
    assert f"Traffic returns from {STABLE} to {PREVIOUS}, because: aborted by command." in told.text


def test_a_rollback_under_way_tells_the_cause_and_the_fix() -> None:
    last = {"revision": CANDIDATE, "reason": "OutOfMemory", "message": "was killed"}
    told = explain(seen(rolling("RollingBack", lastRollback=last)))
    assert told.reason == "OutOfMemory"
    assert ADVICE["OutOfMemory"].fix in told.text
    assert "patch mdep/fraud" in told.steps[0].command
    other = explain(seen(rolling("RollingBack", lastRollback=last | {"revision": "fraud-1"})))
    assert other.reason == "RollingBack"
    assert "because" not in other.text
