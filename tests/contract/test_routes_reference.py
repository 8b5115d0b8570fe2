"""docs/reference/routes.md says what the operator's own table does, and what a run has seen of it."""

import re
import subprocess
import sys

from testkit.crd import ROOT

TEXT = (ROOT / "docs" / "reference" / "routes.md").read_text()


def test_the_capabilities_are_those_of_the_code_and_of_the_last_run() -> None:
    command = [sys.executable, str(ROOT / "tools" / "render_routes.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_reason_of_routes_is_explained() -> None:
    sources = (ROOT / "operator" / "modelyard_operator").rglob("*.py")
    code = "".join(path.read_text() for path in sources if path.parent.name == "traffic")
    for name in ("gateways.py", "encryption.py"):
        code += (ROOT / "operator" / "modelyard_operator" / name).read_text()
    reasons = set(re.findall(r'Problem\(\s*"(\w+)"', code))
    assert len(reasons) >= 5
    explained = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert reasons <= explained
