"""The command line against a real rollout, as a person would use it from one edit to the next."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final

import pytest

from testkit.cluster_api import condition, revision_of, state_of
from testkit.cluster_lab import Lab, Served

pytestmark = [pytest.mark.cluster, pytest.mark.together]

BIN: Final = Path(sys.executable).parent
STEPS: Final = [{"weight": 30, "pause": "Manual"}, {"weight": 100}]
ROWS: Final = "[[1.0, 2.0, 3.0, 4.0]]"
SUM: Final = 10.0
DEADLINE_S: Final = 120


@dataclass(frozen=True)
class Shell:
    """A shell with the command line installed, in the namespace of one ModelDeployment."""

    served: Served

    def run(
        self, *words: str, stdin: str | None = None, plugin: bool = False
    ) -> CompletedProcess[str]:
        """Run a command; ``plugin`` goes through kubectl."""
        program = ["kubectl", "modelyard"] if plugin else [str(BIN / "modelyard")]
        call = self.served.bench.lab.provider.invocation(
            [*program, *words, "-n", self.served.namespace]
        )
        path = f"{BIN}:{call.env['PATH']}"
        return subprocess.run(
            call.argv,
            env={**call.env, "PATH": path, "COLUMNS": "160"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def says(self, *words: str, **options: Any) -> str:
        """Run a command that succeeds; returns what it says."""
        done = self.run(*words, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def document(self, *words: str) -> Any:
        return json.loads(self.says(*words, "-o", "json"))


def paused(seen: Any) -> bool:
    return bool(seen["status"]["rollout"].get("pausedReason") == "Step")


def test_a_person_sees_and_steers_a_rollout(lab: Lab) -> None:
    with lab.bench("cli") as bench:
        served = bench.serve("fraud", rollout={"steps": STEPS, "probationSeconds": 600})
        shell = Shell(served)
        first = revision_of(served.until_ready(), "stable")
        _look_at_what_serves(shell, first)

        served.edit_to(2)
        second = revision_of(served.until(paused), "candidate")
        _look_at_a_rollout(shell, first, second)
        assert shell.says("pause", "fraud") == f"pause {second}: Accepted\n"
        assert shell.says("promote", "fraud", "--revision", second).endswith(": Accepted\n")
        served.until(lambda seen: revision_of(seen, "stable") == second)

        served.edit_to(3)
        third = revision_of(served.until(paused), "candidate")
        _take_back(shell, second, third)
        _try_again(shell, second, third)


def _look_at_what_serves(shell: Shell, first: str) -> None:
    assert f"fraud is Ready: {first} (version 1) serves" in shell.says("explain", "fraud")
    assert "fraud" in shell.says("status", plugin=True).splitlines()[1]
    answer = shell.run("predict", "fraud", "-", stdin=ROWS)
    assert json.loads(answer.stdout) == {"y": [[SUM, SUM]]}, answer
    assert f"x-modelyard-revision: {first}" in answer.stderr
    lines = shell.says("logs", "fraud", "--stable").splitlines()
    assert lines
    assert all(line.startswith(f"{first}/") for line in lines)
    nothing = shell.run("abort", "fraud")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "no rollout of fraud is under way" in nothing.stderr


def _look_at_a_rollout(shell: Shell, first: str, second: str) -> None:
    seen = shell.says("status", "fraud")
    assert "step 1 of 2" in seen
    assert "● 30 % (waits for you) ── ○ 100 %" in seen
    assert f"modelyard promote fraud -n {shell.served.namespace}" in seen
    assert shell.document("explain", "fraud")["reason"] == "Paused/Step"
    fates = {one["revision"]: one["fate"] for one in shell.document("history", "fraud")}
    assert fates == {first: "stable", second: "candidate at 30 %"}
    changed = {one["path"] for one in shell.document("diff", "fraud")["changes"]}
    assert changed == {"model.uri", "model.version"}
    answer = shell.run("predict", "fraud", "-", "--candidate", stdin=ROWS)
    assert json.loads(answer.stdout) == {"y": [[2 * SUM, 2 * SUM]]}, answer
    assert f"x-modelyard-revision: {second}" in answer.stderr


def _take_back(shell: Shell, second: str, third: str) -> None:
    assert shell.says("abort", "fraud") == f"abort {third}: Accepted\n"
    seen = shell.served.until(lambda one: state_of(one) == "RolledBack")
    assert revision_of(seen, "stable") == second
    assert condition(seen, "Stalled")["status"] == "True"
    told = shell.document("explain", "fraud")
    assert told["reason"] == "Aborted"
    assert f"{third} was taken back" in told["explanation"]
    assert told["next"][1]["command"] == f"modelyard retry fraud -n {shell.served.namespace}"
    fates = {one["revision"]: one["fate"] for one in shell.document("history", "fraud")}
    assert fates[second] == "stable"
    assert fates[third].startswith("rejected")


def _try_again(shell: Shell, second: str, third: str) -> None:
    assert shell.says("retry", "fraud") == f"retry {third}: Accepted\n"
    shell.served.until(paused)
    late = shell.run("resume", "fraud", "--revision", second)
    assert late.returncode == 1
    assert f"resume {second}: Ignored" in late.stderr
    assert shell.says("resume", "fraud") == f"resume {third}: Accepted\n"
    shell.served.until(lambda seen: revision_of(seen, "stable") == third)
    shell.served.until(lambda seen: state_of(seen) == "Probation")
    assert shell.says("rollback", "fraud") == f"rollback-to {second}: Accepted\n"
    shell.served.until(lambda seen: revision_of(seen, "stable") == second)
