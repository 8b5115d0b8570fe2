"""Every example of ``examples/models`` is made, served and asked, as its readme says."""

from __future__ import annotations

import importlib.util
import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"
NAMES = sorted(place.name for place in EXAMPLES.iterdir() if place.is_dir())
TORCH = {"huggingface-classification", "huggingface-embeddings", "safetensors"} | {
    name for name in NAMES if name.startswith("torch")
}
LONG = [pytest.mark.slow, pytest.mark.timeout(300)]
"""They train, and import what trains: seconds each, and on a busy machine a minute."""


def marks(name: str) -> Any:
    found = [pytest.mark.torch] * (name in TORCH) + LONG
    if name == "mlflow":
        absent = importlib.util.find_spec("mlflow") is None
        found.append(pytest.mark.skipif(absent, reason="the extra runtime-mlflow is not installed"))
    return pytest.param(name, marks=found)


@pytest.fixture
def _same_path() -> Iterator[None]:
    """A handler's folder is put on the path; the next example must not see it."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.mark.filterwarnings("ignore")  # what the libraries say while they train is not ours
@pytest.mark.usefixtures("_same_path")
@pytest.mark.parametrize("name", [marks(name) for name in NAMES])
async def test_an_example_is_made_served_and_asked(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    written = shutil.ignore_patterns(*(EXAMPLES / ".gitignore").read_text().splitlines(), "model")
    shutil.copytree(EXAMPLES / name, folder, ignore=written)
    if name != "sklearn" and (EXAMPLES / name / "model.yaml").is_file():
        assert (folder / "model.yaml").is_file()
    if (folder / "make.py").is_file():
        runpy.run_path(str(folder / "make.py"), run_name="__main__")
    request = json.loads((folder / "request.json").read_bytes())
    async with serving(folder) as (client, _):
        answer = await client.post("/v2/models/m/infer", json=request)
        assert answer.status_code == 200, answer.text
        expected = json.loads((folder / "answer.json").read_bytes())
        got = answer.json()["outputs"]
        assert len(got) == len(expected)
        for output, wanted in zip(got, expected, strict=True):
            data, right = output.pop("data"), wanted.pop("data")
            assert output == wanted
            if wanted["datatype"].startswith("FP"):
                np.testing.assert_allclose(data, right, rtol=1e-4, atol=1e-2)
            else:
                assert data == right
