"""The commands as they are typed: help, output for machines, exit codes."""

import importlib
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from modelyard_cli import __main__
from modelyard_cli.app import app
from modelyard_cli.cluster import Answer
from modelyard_cli.commands import steer
from modelyard_cli.completion import main as complete
from modelyard_cli.following import Follower
from modelyard_cli.session import Session
from testkit.cli_objects import (
    CANDIDATE,
    FIGURES,
    PREVIOUS,
    STABLE,
    Manifest,
    PreparedCluster,
    controller_revision,
    model_deployment,
    pod,
    rolling,
)

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    *("status", "explain", "history", "diff", "promote", "pause", "resume", "abort"),
    *("retry", "rollback", "predict", "logs"),
)
REVISIONS = [
    controller_revision(PREVIOUS, 1, "6"),
    controller_revision(STABLE, 2, "7"),
    controller_revision(CANDIDATE, 3, "8", name="fraud-model"),
]


def call(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *words: str,
    **prepared: Any,
) -> tuple[int, str, str, PreparedCluster]:
    """Run a command as a shell would; returns exit code, both outputs and the cluster."""
    prepared.setdefault("objects", [rolling("Analyzing", analysis=FIGURES)])
    cluster = prepared.pop("cluster", None) or PreparedCluster(revisions=REVISIONS, **prepared)
    monkeypatch.setattr(Session, "cluster", cluster)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kubectl-modelyard", *words])
    monkeypatch.setenv("COLUMNS", "140")
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err, cluster


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *words, **prepared: call(monkeypatch, capsys, *words, **prepared)


def test_every_command_is_there() -> None:
    assert {one.name for one in typer.main.get_command(app).commands.values()} == set(COMMANDS)  # type: ignore[attr-defined]


def test_the_programs_that_are_installed_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = {name: at for name, at in project["scripts"].items() if "modelyard_cli" in at}
    assert installed.keys() == {"modelyard", "kubectl-modelyard", "kubectl_complete-modelyard"}
    for place in installed.values():
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_every_command_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert [
        name for name in COMMANDS if f"`{name} NAME" not in page and f"`{name} [" not in page
    ] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_by_examples(run: Any, name: str) -> None:
    code, out, _, _ = run(name, "--help")
    assert code == 0
    examples = out.partition("Examples:\n")[2].partition("\n\n")[0]
    assert f"modelyard {name}" in examples
    assert "-n, --namespace NAME" in out
    assert out.startswith(f"Usage: kubectl modelyard {name} ")


def test_status_of_one_and_of_all(run: Any) -> None:
    _, out, _, _ = run("status", "fraud", "-n", "serving")
    assert "Analyzing · step 2 of 4" in out
    assert "kubectl modelyard abort fraud -n serving" in out
    _, out, _, _ = run("status")
    assert out.splitlines()[1].startswith("fraud")
    _, out, _, _ = run("status", objects=[])
    assert out == "no ModelDeployments in namespace serving\n"


def test_what_others_wrote_is_shown_as_it_is(run: Any) -> None:
    manifest = rolling("Warming", lastCommand={"id": "1", "result": "Refused: [bold]no[/bold] :x:"})
    manifest["status"]["conditions"][0]["message"] = "[red]expected[/red] [-1, 4] :smile:"
    _, out, _, _ = run("status", "fraud", objects=[manifest])
    assert out.count("[red]expected[/red] [-1, 4] :smile:") == 2, (
        "as the cause, and in its condition"
    )
    assert "Refused: [bold]no[/bold] :x:" in out


def test_status_for_machines_is_the_object_itself(run: Any) -> None:
    manifest = rolling("Analyzing")
    assert json.loads(run("status", "fraud", "-o", "json", objects=[manifest])[1]) == manifest
    assert yaml.safe_load(run("status", "fraud", "-o", "yaml", objects=[manifest])[1]) == manifest


def test_a_watch_that_is_no_terminal_writes_a_line_for_each_change(run: Any) -> None:
    objects = [rolling("Warming"), rolling("Warming"), rolling("Analyzing"), model_deployment()]
    code, out, _, _ = run("status", "fraud", "--watch", objects=objects)
    assert code == 0
    assert [line.split(" ", 2)[2].split()[0] for line in out.splitlines()] == [
        "Warming",
        "Analyzing",
        "Idle",
    ]


class Interrupted(PreparedCluster):
    def watch(self, _name: str) -> Iterator[Manifest | None]:
        yield self.objects[0]
        raise KeyboardInterrupt


def test_a_watch_ends_with_ctrl_c_and_without_an_error(run: Any) -> None:
    code, out, err, _ = run("status", "fraud", "-w", cluster=Interrupted([rolling("Warming")]))
    assert (code, err) == (0, "")
    assert "Warming step 2 of 4" in out


def test_following_ends_with_ctrl_c_and_without_an_error(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_follower: Follower, _show: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Follower, "follow", interrupted)
    code, _, err, _ = run("logs", "fraud", "-f")
    assert (code, err) == (0, "")


@pytest.mark.parametrize("words", [["status", "--watch"], ["status", "fraud", "-w", "-o", "json"]])
def test_a_watch_is_of_one_model_as_text(run: Any, words: list[str]) -> None:
    code, _, err, _ = run(*words)
    assert code == 2
    assert "it shows one model, as text" in err


def test_explain(run: Any) -> None:
    _, out, _, _ = run("explain", "fraud")
    assert f"25 % of the requests go to {CANDIDATE}" in out
    document = json.loads(run("explain", "fraud", "-o", "json")[1])
    assert document["reason"] == "Analyzing"


def test_history_and_diff(run: Any) -> None:
    _, out, _, _ = run("history", "fraud")
    assert [line.split()[0] for line in out.splitlines()] == ["#", "3", "2", "1"]
    assert "candidate at 25 %" in out
    _, out, _, _ = run("diff", "fraud")
    assert "+  uri: s3://models/fraud/8" in out.splitlines()
    document = json.loads(run("diff", "fraud", "1", "2", "-o", "json")[1])
    assert document == {
        "from": PREVIOUS,
        "to": STABLE,
        "changes": [
            {"path": "model.uri", "old": "s3://models/fraud/6", "new": "s3://models/fraud/7"}
        ],
    }
    code, _, err, _ = run("diff", "fraud", "77")
    assert code == 1
    assert "77 names no revision on record" in err


class Obeying(PreparedCluster):
    """An operator that records a command at the second look after it."""

    result = "Accepted"

    def get(self, name: str) -> Any:
        manifest = super().get(name)
        if self.annotations and self._looked > 2:
            verb, _, rest = self.annotations[-1][2].partition("@")
            revision, _, command_id = rest.partition("#")
            last = {"id": command_id, "verb": verb, "revision": revision, "result": self.result}
            manifest["status"]["rollout"]["lastCommand"] = last
        return manifest


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["promote", "fraud"], f"promote@{CANDIDATE}"),
        (["promote", "fraud", "--full"], f"promote-full@{CANDIDATE}"),
        (["promote", "fraud", "--revision", STABLE], f"promote@{STABLE}"),
        (["pause", "fraud"], f"pause@{CANDIDATE}"),
        (["resume", "fraud"], f"resume@{CANDIDATE}"),
        (["abort", "fraud"], f"abort@{CANDIDATE}"),
        (["retry", "fraud"], f"retry@{CANDIDATE}"),
        (["retry", "fraud", "1"], f"retry@{PREVIOUS}"),
        (["rollback", "fraud"], f"rollback-to@{PREVIOUS}"),
        (["rollback", "fraud", "0a0a"], f"rollback-to@{PREVIOUS}"),
    ],
)
def test_a_command_is_written_and_its_result_told(
    run: Any, monkeypatch: pytest.MonkeyPatch, words: list[str], command: str
) -> None:
    monkeypatch.setattr(steer, "POLL_S", 0)
    manifest = rolling("Analyzing", previous=PREVIOUS, rejected=[CANDIDATE])
    cluster = Obeying(objects=[manifest], revisions=REVISIONS)
    code, out, err, _ = run(*words, cluster=cluster)
    ((name, key, value),) = cluster.annotations
    assert (name, key) == ("fraud", "modelyard.dev/rollout")
    assert value.rpartition("#")[0] == command
    assert (code, err) == (0, "")
    assert out == f"{command.replace('@', ' ')}: Accepted\n"


@pytest.mark.parametrize(
    "result", ["Refused: spec.rollout.paused is true", "Ignored: nothing to skip"]
)
def test_a_command_that_changed_nothing_ends_with_1(
    run: Any, monkeypatch: pytest.MonkeyPatch, result: str
) -> None:
    monkeypatch.setattr(steer, "POLL_S", 0)
    cluster = Obeying(objects=[rolling("Analyzing")])
    cluster.result = result
    code, out, err, _ = run("promote", "fraud", cluster=cluster)
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: promote {CANDIDATE}: {result}\nHint: ")


def test_an_operator_that_does_not_answer_ends_it_with_1(run: Any) -> None:
    code, _, err, _ = run("abort", "fraud", "--timeout", "0")
    assert code == 1
    assert f"the operator has not taken abort@{CANDIDATE} within 0 s" in err


def test_a_command_without_a_rollout_writes_nothing(run: Any) -> None:
    code, _, err, cluster = run("abort", "fraud", objects=[model_deployment()])
    assert code == 1
    assert "no rollout of fraud is under way" in err
    assert cluster.annotations == []


def test_predict_asks_the_stable_revision_by_its_own_name(run: Any, tmp_path: Any) -> None:
    body = tmp_path / "rows.json"
    body.write_text("[[1.0]]")
    answer = Answer(200, {"x-modelyard-revision": STABLE, "x-request-id": "r1"}, b'{"y":[2]}\n')
    code, out, err, cluster = run("predict", "fraud", str(body), answer=answer)
    ((service, question),) = cluster.asked
    assert (service, question.path) == (STABLE, "/predict/fraud")
    assert (code, out) == (0, '{"y":[2]}\n')
    assert err == f"HTTP 200 · x-modelyard-revision: {STABLE} · x-request-id: r1\n"

    _, _, _, cluster = run("predict", "fraud", str(body), "--candidate", answer=answer)
    ((service, question),) = cluster.asked
    assert (service, question.path) == (CANDIDATE, "/predict/fraud-model")
    _, _, _, cluster = run("predict", "fraud", str(body), "--revision", "1", answer=answer)
    assert cluster.asked[0][0] == PREVIOUS


def test_predict_ends_with_1_when_the_model_refuses(run: Any, tmp_path: Any) -> None:
    body = tmp_path / "rows.json"
    body.write_text("[[1.0]]")
    answer = Answer(400, {}, b'{"error":"no such input","code":"invalid_input"}')
    code, out, err, _ = run("predict", "fraud", str(body), answer=answer)
    assert (code, out) == (1, "")
    assert "the model answered 400" in err
    code, _, err, _ = run("predict", "fraud", str(tmp_path / "none.json"))
    assert code == 1
    assert "none.json cannot be read: No such file" in err
    idle = [model_deployment()]
    code, _, err, _ = run("predict", "fraud", str(body), "--candidate", objects=idle)
    assert code == 1
    assert "fraud: no rollout is under way" in err


def test_logs_are_prefixed_by_revision_and_pod(run: Any) -> None:
    runs: dict[str, Any] = {"state": {"running": {}}}
    pods = [
        pod(f"{STABLE}-5d8-abcde", STABLE, runtime=runs),
        pod(f"{CANDIDATE}-6c9-fghij", CANDIDATE, runtime=runs),
    ]
    lines = {f"{STABLE}-5d8-abcde": ["one"], f"{CANDIDATE}-6c9-fghij": ["[red]two[/red]"]}
    _, out, _, cluster = run("logs", "fraud", found_pods=pods, lines=lines)
    assert out.splitlines() == [f"{STABLE}/abcde one", f"{CANDIDATE}/fghij [red]two[/red]"]
    assert cluster.queries[0][1] == {"container": "runtime", "tailLines": "100"}
    _, out, _, _ = run("logs", "fraud", "--candidate", "--tail", "-1", found_pods=pods, lines=lines)
    assert out.splitlines() == [f"{CANDIDATE}/fghij [red]two[/red]"]
    code, _, err, _ = run("logs", "fraud", "--previous", found_pods=pods)
    assert code == 1
    assert "fraud: no container has ended yet" in err


@pytest.mark.parametrize(
    ("words", "found"),
    [(["pro"], ["promote"]), (["status", "--wa"], ["--watch"]), (["status", "fr"], ["fraud"])],
)
def test_kubectl_completes_commands_options_and_names(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    found: list[str],
) -> None:
    for variable in ("_MODELYARD_COMPLETE", "COMP_WORDS", "COMP_CWORD"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(Session, "cluster", PreparedCluster(objects=[model_deployment()]))
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-modelyard", *words])
    with pytest.raises(SystemExit):
        complete()
    assert capsys.readouterr().out.split() == found
