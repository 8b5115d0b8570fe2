"""The first thing that explains the others is what is told."""

import pytest

from modelyard_cli.explain import explain
from modelyard_cli.view import View
from testkit.cli_objects import STABLE, condition, model_deployment, rolling, seen


def test_ready_says_what_serves_and_where() -> None:
    told = explain(seen(model_deployment()))
    assert told.reason == "Serving"
    assert told.text == (
        f"fraud is Ready: {STABLE} (version 7) serves what the spec asks for with 2 ready pods at "
        "https://fraud.example.com/."
    )
    assert told.steps[0].command == "kubectl modelyard predict fraud BODY.json -n serving"


def test_an_object_without_status_asks_for_an_operator() -> None:
    manifest = model_deployment()
    manifest["status"] = {}
    told = explain(seen(manifest))
    assert told.reason == "NotObserved"
    assert "The operator has not looked at this object." in told.text
    assert "app.kubernetes.io/component=operator" in told.steps[0].command


def test_an_edit_that_was_not_seen_hides_everything_else() -> None:
    manifest = rolling("Analyzing")
    manifest["metadata"]["generation"] = 3
    manifest["status"]["failure"] = {"reason": "OutOfMemory"}
    told = explain(seen(manifest))
    assert "the last edit (generation 3, seen is 2)" in told.text


def test_suspended_comes_before_a_failure() -> None:
    manifest = model_deployment({"suspend": True}, failure={"reason": "OutOfMemory"})
    told = explain(seen(manifest))
    assert told.reason == "Suspended"
    assert """'{"spec":{"suspend":false}}'""" in told.steps[0].command


def test_deletion_comes_first() -> None:
    manifest = model_deployment({"suspend": True})
    manifest["metadata"]["deletionTimestamp"] = "2026-05-04T12:00:00Z"
    assert explain(seen(manifest)).reason == "Deleting"


@pytest.mark.parametrize(
    ("reason", "words", "command"),
    [
        ("ScaledToZero", "spec.replicas is 0", "kubectl scale mdep/fraud --replicas=1"),
        ("NoReadyReplicas", f"No pod of {STABLE} is ready", "kubectl get pods -l "),
        ("RoutesPending", "the routes do not show yet", "kubectl describe ingress -l "),
        (
            "RouteNotAccepted",
            "does not have the routes: a sentence.",
            "kubectl describe ingress -l ",
        ),
        (
            "RoutesSettling",
            "the proxies get a few seconds",
            "kubectl modelyard status fraud --watch",
        ),
        ("Novel", "fraud is not Ready: a sentence.", "kubectl describe mdep/fraud"),
    ],
)
def test_what_the_condition_says_is_the_last_resort(reason: str, words: str, command: str) -> None:
    conditions = [condition("Ready", "False", reason, "a sentence")]
    told = explain(seen(model_deployment(conditions=conditions)))
    assert told.reason == reason
    assert words in told.text
    assert told.steps[0].command.startswith(command)


def test_behind_a_gateway_the_route_is_another_object() -> None:
    conditions = [condition("Ready", "False", "RoutesPending", "a sentence")]
    manifest = model_deployment(conditions=conditions, traffic={"dialect": "Gateway"})
    (step, *_) = explain(seen(manifest)).steps
    assert step.command.startswith(
        "kubectl describe httproute -l modelyard.dev/model-deployment=fraud"
    )


def test_what_was_rejected_is_told_in_any_state() -> None:
    conditions = [
        condition("Ready", "False", "ErrorsWorse", "x"),
        condition("Stalled", "True", "Rejected"),
    ]
    told = explain(seen(model_deployment(conditions=conditions)))
    assert "is not tried again unless you say so" in told.text


def test_what_is_wrong_beside_the_cause_is_appended() -> None:
    manifest = model_deployment()
    manifest["status"]["conditions"] += [
        condition("FeaturesUnsupported", "True", "ProfileLimit", "no header matching"),
        condition("ScalingActive", "False", "FailedGetMetrics", "no metrics server"),
        condition("ObjectivesMet", "False", "ErrorsAboveMax", "errors: 40 of 900"),
        condition("Verified", "False", "VerificationFailed", "y differs by 3 %"),
        condition("CapacityAvailable", "False", "InsufficientCPU", "fraud-1: 0/1 nodes"),
    ]
    text = explain(seen(manifest)).text
    assert "A limit that it promises is broken: errors: 40 of 900." in text
    assert "is supported here: no header matching." in text
    assert "The autoscaler does not work: no metrics server." in text
    assert "The golden requests are not answered as recorded: y differs by 3 %." in text
    assert "Not every pod finds room: fraud-1: 0/1 nodes." in text


def test_what_was_not_asked_for_or_is_the_cause_itself_is_not_appended() -> None:
    manifest = model_deployment(failure={"reason": "InsufficientCPU", "message": "0/1 nodes"})
    manifest["status"]["conditions"] += [
        condition("ScalingActive", "False", "FixedReplicas", "spec.scaling is not set"),
        condition("CapacityAvailable", "False", "InsufficientCPU", "fraud-1: 0/1 nodes"),
    ]
    text = explain(seen(manifest)).text
    assert "spec.scaling" not in text
    assert "Not every pod" not in text


def test_for_machines_it_is_a_document() -> None:
    looked = seen(model_deployment())
    document = explain(looked).to_document(View.of(model_deployment()))
    assert document["ready"] is True
    assert document["reason"] == "Serving"
    assert set(document["next"][0]) == {"command", "why"}
