"""The custom resource against a real API server: what it refuses, and in which words."""

import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import pytest
import yaml

pytestmark = pytest.mark.cluster

Kubectl = Callable[..., CompletedProcess[str]]

ROOT: Final = Path(__file__).resolve().parents[2]
INVALID: Final = sorted((ROOT / "tests" / "data" / "invalid").glob("*.yaml"))
EXAMPLES: Final = sorted((ROOT / "examples").glob("*.yaml"))
EXPECT: Final = "# expect: "


def _expected(manifest: str) -> re.Pattern[str]:
    """Turn the first line, `# expect: path: message`, into a pattern for one line of the answer.

    Between path and message the API server may write the value, and releases differ in how.
    """
    first = manifest.partition("\n")[0].removeprefix(EXPECT)
    path, colon, message = first.partition(": ")
    return re.compile(f"{re.escape(path + colon)}.*{re.escape(message)}")


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_manifest_is_refused_with_a_reason(kubectl: Kubectl, path: Path) -> None:
    manifest = path.read_text()
    answer = kubectl("apply", "--dry-run=server", "-f", "-", stdin=manifest, check=False)
    assert answer.returncode != 0, answer.stdout
    assert _expected(manifest).search(answer.stderr), answer.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_accepted(kubectl: Kubectl, path: Path) -> None:
    answer = kubectl("apply", "--dry-run=server", "-f", str(path), check=False)
    assert answer.returncode == 0, answer.stderr
    assert "unknown field" not in answer.stderr


def test_the_least_manifest_gets_its_defaults_stored(kubectl: Kubectl) -> None:
    bare = {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "defaults"},
        "spec": {"model": {"uri": "s3://models/fraud"}},
    }
    arguments = ("apply", "--dry-run=server", "-o", "yaml", "-f", "-")
    spec = yaml.safe_load(kubectl(*arguments, stdin=yaml.safe_dump(bare)).stdout)["spec"]
    assert [step["weight"] for step in spec["rollout"]["steps"]] == [5, 25, 50, 100]
    assert spec["podDisruptionBudget"] == {"maxUnavailable": 1}
    assert spec["exposure"]["path"] == "/"
    assert spec["model"]["format"] == "Auto"
    assert "replicas" not in spec


def test_an_unknown_scheme_is_left_to_the_operator(kubectl: Kubectl) -> None:
    manifest = EXAMPLES[0].read_text().replace("https://", "ftp://")
    kubectl("apply", "--dry-run=server", "-f", "-", stdin=manifest)


def test_an_unknown_pod_field_reaches_the_operator(kubectl: Kubectl) -> None:
    manifest = yaml.safe_load(EXAMPLES[0].read_text())
    manifest["spec"]["podTemplate"] = {"spec": {"fieldOfANewerRelease": True}}
    arguments = ("apply", "--dry-run=server", "-o", "yaml", "-f", "-")
    stored = yaml.safe_load(kubectl(*arguments, stdin=yaml.safe_dump(manifest)).stdout)
    assert stored["spec"]["podTemplate"]["spec"] == {"fieldOfANewerRelease": True}


def test_every_field_of_the_spec_explains_itself(kubectl: Kubectl) -> None:
    explained = kubectl("explain", "modeldeployments.spec", "--recursive=false").stdout
    for field in ("model", "rollout", "exposure", "scaling", "podTemplate"):
        assert re.search(rf"^  {field}\s", explained, re.MULTILINE), explained
