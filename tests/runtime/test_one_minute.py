"""docs/serve-a-model-in-one-minute.md, done as it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testkit.runtime_serving import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testkit.runtime_serving import Running

PAGE = Path(__file__).parents[2] / "docs" / "serve-a-model-in-one-minute.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [text for language, text in BLOCKS if language == "sh"]
CURLS = [text for text in COMMANDS if text.startswith("curl")]

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's model is made."""
    folder = tmp_path_factory.mktemp("one-minute")
    (script,) = [text for language, text in BLOCKS if language == "python"]
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    assert "modelyard-runtime serve iris.pt2\n" in COMMANDS
    logs = tmp_path_factory.mktemp("logs")
    with running(logs, "serve", str(folder / "iris.pt2")) as process:
        process.wait_for("Ready")
        yield process


def ask(command: str, served: Running) -> Any:
    port = served.http.rpartition(":")[2]
    done = subprocess.run(
        ["bash", "-c", command.replace("localhost:8080", f"127.0.0.1:{port}")],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def test_the_page_shows_what_it_takes(folder: Path) -> None:
    (command,) = [text for text in COMMANDS if " check " in text]
    words = command.split()
    assert words == ["modelyard-runtime", "check", "iris.pt2"]
    checked = [sys.executable, "-m", "modelyard_runtime", *words[1:]]
    text = subprocess.run(checked, cwd=folder, check=True, capture_output=True, text=True).stdout
    assert "iris" in text


def test_the_three_questions_are_answered(served: Running) -> None:
    plain, protocol, metadata = (ask(command, served) for command in CURLS)
    (scores,) = protocol["outputs"]
    assert scores["shape"] == [1, 3]
    numbers = [float(text) for text in re.findall(r"[-+.\de]*\d", json.dumps(plain))]
    for value in scores["data"]:
        assert any(number == pytest.approx(value, abs=1e-3) for number in numbers), plain
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}]
