"""Every reason that the operator can write into status.failure has advice of its own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelyard_operator
from modelyard_cli.advice import ADVICE
from modelyard_cli.explain import explain
from modelyard_operator import errors
from modelyard_runtime.errors import Reason
from testkit.cli_objects import CANDIDATE, condition, model_deployment, rolling, seen

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = Path(modelyard_operator.__file__).parent
ABSTRACT = errors.ModelyardOperatorError.reason
COMPOSED = {"SecretNotFound", "ConfigMapNotFound", "PodFailed"}
"""Put together from parts in the operator's source, where they are no constants."""
WORD = re.compile(r"[A-Z][A-Za-z]+")


def reasons() -> set[str]:
    """Every reason: of the operator's errors, of its failures, and of the containers' last words."""
    found = {one.value for one in Reason} | COMPOSED
    for path in OPERATOR.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                found |= set(_reason_of_class(node))
            elif path.parent.name == "failures":
                found |= set(_reasons_of(node))
    return found - {ABSTRACT}


def _reason_of_class(node: ast.ClassDef) -> Iterator[str]:
    for line in node.body:
        if isinstance(line, ast.Assign):
            targets: list[ast.expr] = line.targets
        elif isinstance(line, ast.AnnAssign):
            targets = [line.target]
        else:
            continue
        if line.value and any(isinstance(one, ast.Name) and one.id == "reason" for one in targets):
            yield ast.literal_eval(line.value)


def _reasons_of(node: ast.AST) -> Iterator[str]:
    """Words that become a Failure's reason: its argument, and what stands before a hint in a tuple."""
    values: list[ast.expr] = []
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Failure":
        values = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "reason")]
    elif isinstance(node, ast.Tuple):
        values = node.elts[:-1]
    for value in values:
        if isinstance(value, ast.Constant) and WORD.fullmatch(str(value.value)):
            yield str(value.value)


def test_the_reasons_are_found() -> None:
    expected = {"OutOfMemory", "InsufficientAccelerator", "ImagePullFailed", "ContainerCrashed"}
    expected |= {"InvalidSpec", "NameTaken", "PodCreationFailed", "AccessDenied", "ProbeFailed"}
    assert expected | {"ClaimNotBound", "PodEvicted", "VolumeMountFailed"} <= reasons()


def test_every_reason_in_the_reference_has_advice() -> None:
    page = (ROOT / "docs" / "reference" / "failures.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}
    assert len(listed) > len(cells)
    assert not listed - ADVICE.keys()


@pytest.mark.parametrize("reason", sorted(reasons()))
def test_a_failure_is_explained_by_its_cause_and_a_command(reason: str) -> None:
    assert reason in ADVICE, f"explain has only generic words for {reason}: add it to advice.py"
    failure = {
        "reason": reason,
        "message": "the words of the operator",
        "hint": "its hint",
        "revision": CANDIDATE,
        "pod": f"{CANDIDATE}-5d8f7-abcde",
        "container": "runtime",
        "count": 3,
        "lastTime": "2026-05-04T11:59:00Z",
    }
    manifest = rolling("Warming")
    manifest["status"]["failure"] = failure
    told = explain(seen(manifest))
    assert told.reason == reason
    assert told.text.startswith(f"{CANDIDATE} fails ({reason}): the words of the operator.")
    assert "That was 1 min ago. It has happened 3 times." in told.text
    assert ADVICE[reason].meaning in told.text
    assert ADVICE[reason].fix in told.text
    first = told.steps[0].command
    assert first.startswith(("kubectl ", "kubectl modelyard "))
    assert "abort" in told.steps[-1].command
    for sentence in (ADVICE[reason].meaning, ADVICE[reason].fix):
        assert sentence.endswith(".")
        assert sentence[0].isupper() or sentence.startswith("spec.")


def test_a_reason_of_a_newer_operator_is_told_in_its_own_words() -> None:
    failure = {"reason": "BrandNew", "message": "it broke", "hint": "mend it", "revision": "r-1"}
    told = explain(seen(model_deployment(failure=failure)))
    assert "r-1 fails (BrandNew): it broke." in told.text
    assert "The operator's advice: mend it." in told.text
    assert (
        told.steps[0].command == "kubectl modelyard logs fraud --revision r-1 --previous -n serving"
    )


def test_a_secret_that_is_named_is_shown() -> None:
    spec = {"model": {"uri": "s3://m/x", "credentialsSecretRef": {"name": "s3-keys"}}}
    told = explain(seen(model_deployment(spec, failure={"reason": "AccessDenied"})))
    assert told.steps[0].command == "kubectl describe secret/s3-keys -n serving"


def test_an_edit_is_merged_json() -> None:
    told = explain(seen(model_deployment(failure={"reason": "OutOfMemory"})))
    wanted = """kubectl patch mdep/fraud --type=merge -p '{"spec":{"resources":{"limits":{"memory":"QUANTITY"}}}}'"""
    assert told.steps[0].command == f"{wanted} -n serving"


def test_the_namespace_of_the_object_is_not_mixed_with_the_operators() -> None:
    told = explain(seen(model_deployment(failure={"reason": "ClusterError"})))
    assert told.steps[0].command.startswith("kubectl logs -n modelyard-system ")
    assert "-n serving" not in told.steps[0].command


def test_who_serves_meanwhile_is_said_only_of_another_revision() -> None:
    ready = [condition("Ready", "False", "OutOfMemory")]
    failing = model_deployment(
        failure={"reason": "OutOfMemory", "revision": "fraud-7c9fe102"}, conditions=ready
    )
    assert "answers all requests" not in explain(seen(failing)).text
    failing["status"]["failure"]["revision"] = CANDIDATE
    assert "fraud-7c9fe102 answers all requests." in explain(seen(failing)).text
