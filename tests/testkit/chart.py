"""The chart, rendered by the real helm."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "charts" / "modelyard"

Manifest = dict[str, Any]


def helm() -> str:
    """Return the path of helm: from PATH, else the one that the cluster tool has built."""
    if found := shutil.which("helm"):
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    built = sorted(cache.glob("modelyard/bin/helm-*/helm"))
    if not built:
        raise FileNotFoundError("helm: expected on PATH or built by `python -m localcluster up`")
    return str(built[-1])


def run_helm(*arguments: str, values: Mapping[str, Any] | None = None) -> str:
    """Run helm with values on its standard input; returns what it prints."""
    command = [helm(), *arguments, "--values", "-"]
    done = subprocess.run(
        command, input=json.dumps(values or {}), text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise ValueError(done.stderr + done.stdout)
    return done.stdout


def render(values: Mapping[str, Any] | None = None) -> list[Manifest]:
    """Return the objects of a release `modelyard` in the namespace `modelyard`."""
    text = run_helm("template", "modelyard", str(CHART), "--namespace", "modelyard", values=values)
    return [one for one in yaml.safe_load_all(text) if one]


def pick(objects: list[Manifest], kind: str) -> list[Manifest]:
    return [one for one in objects if one["kind"] == kind]
