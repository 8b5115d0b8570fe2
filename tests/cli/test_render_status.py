"""What a terminal shows, as text."""

import io
import re
from typing import Any

from rich.console import Console, RenderableType

from modelyard_cli.explain import explain
from modelyard_cli.render.listing import render_explanation, render_list
from modelyard_cli.render.status import render_status
from modelyard_cli.sentences import headline
from modelyard_cli.view import View
from testkit.cli_objects import (
    CANDIDATE,
    FIGURES,
    NOW,
    STABLE,
    at,
    condition,
    model_deployment,
    pod,
    rolling,
    seen,
)


def shown(renderable: RenderableType, width: int = 140, *, soft_wrap: bool = False) -> str:
    file = io.StringIO()
    Console(width=width, file=file).print(renderable, soft_wrap=soft_wrap)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def event(seconds: float, type_: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": type_, "reason": reason, "message": message, "lastTimestamp": at(seconds)}


def test_a_rollout_in_its_second_step() -> None:
    last = {
        "id": "a1",
        "verb": "resume",
        "revision": CANDIDATE,
        "result": "Accepted",
        "time": at(-9),
    }
    manifest = rolling(
        "Analyzing", analysis=FIGURES, nextStepTime=at(48), deadlineTime=at(3400), lastCommand=last
    )
    pods = [
        pod(f"{CANDIDATE}-5d8-abcde", CANDIDATE, runtime={"state": {"running": {}}}),
        pod(
            f"{STABLE}-6c9-fghij",
            STABLE,
            runtime={"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3},
        ),
    ]
    events = [event(-s, "Normal", f"R{s}", f"message {s}") for s in range(1, 9)]
    text = shown(render_status(seen(manifest), pods, events))
    assert "serving/fraud" in text
    assert "● RolloutInProgress" in text
    assert (
        "Analyzing · step 2 of 4 · since 3 min 20 s · next in 48 s · deadline in 56 min 40 s"
        in text
    )
    assert "✔ 5 % ── ● 25 % ── ○ 50 % (waits for you) ── ○ 100 %" in text
    assert f"stable     {STABLE}  7         75 %  ███████████████░░░░░    2/2" in text
    assert f"candidate  {CANDIDATE}  8         25 %  █████░░░░░░░░░░░░░░░    2/2" in text
    assert "Analysis (since 4 min)" in text
    assert "3 of 1,200 (0.25 %)  61 of 310 (19.7 %)  2.12e+05, max 3.25  Fail" in text
    assert "an e-value of 900 is a Fail" in text
    assert f"Last command: resume {CANDIDATE} 9 s ago: Accepted" in text
    assert "runtime: CrashLoopBackOff" in text
    assert "runtime works" in text
    assert "R6" in text
    assert "R7" not in text, "only the newest are shown"
    assert text.index("R6") < text.index("R1")
    assert "kubectl modelyard promote fraud -n serving" in text


def test_a_rejected_revision_is_marked_where_it_failed() -> None:
    last = {
        "revision": CANDIDATE,
        "reason": "AnalysisFailed",
        "message": "61 of 310",
        "time": at(-5),
    }
    manifest = rolling("RolledBack", lastRollback=last, rejected=[CANDIDATE])
    manifest["status"]["conditions"].append(condition("Stalled", "True", "AnalysisFailed"))
    text = shown(render_status(seen(manifest)))
    assert "✖ 25 %" in text
    assert f"Taken back: {CANDIDATE} (AnalysisFailed) 5 s ago 61 of 310" in text
    assert f"Rejected: {CANDIDATE}" in text


def test_a_query_shows_its_numbers_instead_of_counts() -> None:
    drift = {"metric": "drift", "candidateValue": "0.31", "eValue": "1", "verdict": "Undecided"}
    text = shown(render_status(seen(rolling("Analyzing", analysis={"metrics": [drift]}))))
    (line,) = (line for line in text.splitlines() if line.startswith("drift"))
    assert line.split() == ["drift", "no", "number", "0.31", "-", "Undecided"]


def test_an_idle_model_shows_no_steps_and_no_analysis() -> None:
    text = shown(render_status(seen(model_deployment())))
    assert "✔ Ready" in text
    assert "https://fraud.example.com/" in text
    assert "Steps" not in text
    assert "Analysis" not in text


def test_variants_are_shown_beside_stable() -> None:
    metric = {
        "metric": "errors",
        "stable": {"n": 2000, "bad": 4},
        "variant": {"n": 200, "bad": 1},
        "eValue": "0.81",
    }
    variants = [
        {
            "name": "b",
            "revision": "fraud-0b0b0b0b",
            "version": "b",
            "weight": 10,
            "replicas": 1,
            "readyReplicas": 1,
            "comparison": {"stable": STABLE, "since": at(-7200), "metrics": [metric]},
        },
        {"name": "c", "weight": 0, "message": "fraud-0c0c0c0c: 0 of 1 pods are ready"},
    ]
    text = shown(render_status(seen(model_deployment(variants=variants))))
    assert re.search(r"b +fraud-0b0b0b0b +b +10 % +1/1\n", text)
    assert "c: fraud-0c0c0c0c: 0 of 1 pods are ready" in text
    assert f"Variant b beside {STABLE} (since 2 h" in text
    assert re.search(r"errors +4 of 2,000 \(0.2 %\) +1 of 200 \(0.5 %\) +0.81", text)
    assert "Variant" not in shown(render_status(seen(model_deployment())))


def test_an_object_without_status_is_shown() -> None:
    text = shown(render_status(seen(model_deployment() | {"status": {}})))
    assert "not seen by the operator yet" in text
    assert "The operator has written no conditions yet." in text


def test_figures_that_cannot_be_read_and_shadowing_are_shown() -> None:
    manifest = rolling(
        "Shadowing", analysis={"errors": 4}, shadow={"samples": 1420, "agreement": "0.991"}
    )
    text = shown(render_status(seen(manifest)))
    assert "could not be read, 4 times in a row" in text
    assert "Shadow: 1,420 answers compared, agreement 0.991" in text


def test_conditions_that_are_good_when_false_are_green() -> None:
    manifest = model_deployment()
    manifest["status"]["conditions"] += [
        condition("FeaturesUnsupported", "True", "ProfileLimit", "no mirror"),
        condition("Suspended", "False", "NotSuspended"),
        condition("Reconciling", "False", "Done"),
    ]
    lines = {
        line.split()[0]: line for line in shown(render_status(seen(manifest))).splitlines() if line
    }
    assert "✖" in lines["FeaturesUnsupported"]
    assert "○" in lines["Suspended"], "what was not asked for is neither good nor bad"
    assert "✔" in lines["Reconciling"]
    assert "✔" in lines["Stalled"]


def test_several_are_one_line_each() -> None:
    views = [View.of(model_deployment()), View.of(rolling("Paused", pausedReason="Step"))]
    text = shown(render_list(views, NOW))
    ready, paused = text.splitlines()[1:]
    assert ready.split()[:3] == ["fraud", "✔", "Serving"]
    assert "Paused 2/4 (3 min 20 s)" in paused
    assert paused.rstrip().endswith("25 %")


def test_a_log_gets_one_line_for_each_change() -> None:
    view = View.of(rolling("Analyzing", analysis=FIGURES))
    assert headline(view) == (
        f"fraud: Analyzing step 2 of 4, 25 % to {CANDIDATE}, errors Fail; not Ready (RolloutInProgress)"
    )
    assert headline(View.of(model_deployment())) == "fraud: Idle Ready"


def test_a_command_is_never_broken_over_lines() -> None:
    manifest = model_deployment(failure={"reason": "OutOfMemory"})
    told = explain(seen(manifest))
    lines = shown(render_explanation(told, 60), width=60, soft_wrap=True).splitlines()
    assert f"  {told.steps[0].command}" in lines
    assert max(map(len, lines[: lines.index("")])) <= 60
