"""``tests/data/<case>``: a manifest with the ConfigMaps it names, and every child it leads to.

After a change that is meant: ``MODELYARD_UPDATE_GOLDEN=1 pytest tests/operator/test_golden.py``,
then read the difference.
"""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelyard_operator.desired import desired_state
from testkit.operator_cluster import Bench, Clock
from testkit.operator_objects import raw_model_deployment

DATA = Path(__file__).parents[1] / "data"
CASES = sorted(path.parent.name for path in DATA.glob("*/modeldeployment.yaml"))
MID_ROLLOUT = 25


async def _children(case: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    text = (DATA / case / "modeldeployment.yaml").read_text()
    first, *edits = (one["spec"] for one in yaml.safe_load_all(text))
    bench = Bench(raw_model_deployment(**first), monkeypatch)
    for raw in _config_maps(case):
        bench.put(raw)
    await bench.rest()
    for edit in edits:
        bench.edit(**edit)
        await bench.until("Analyzing", MID_ROLLOUT)
    observed = bench.store.observe(bench.key)
    assert observed is not None
    plan = desired_state(observed, bench.settings, Clock.at)
    return {"objects": _brief(plan.objects), "scales": dict(plan.scales), "gaps": list(plan.gaps)}


def _config_maps(case: str) -> list[dict[str, Any]]:
    path = DATA / case / "configmaps.yaml"
    return list(yaml.safe_load_all(path.read_text())) if path.exists() else []


def _brief(objects: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """Leave out what is the same everywhere, once it is seen to be."""
    made = copy.deepcopy(list(objects))
    templates = {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in made
        if one["kind"] == "Deployment"
    }
    for one in made:
        (owner,) = one["metadata"].pop("ownerReferences")
        assert (owner["kind"], owner["uid"], owner["controller"]) == (
            "ModelDeployment",
            "uid-fraud",
            True,
        )
        assert one["metadata"].pop("namespace") == "ml"
        if one["kind"] == "ControllerRevision":
            assert one["data"].pop("template") == templates[one["metadata"]["name"]]
    return made


def test_there_are_cases() -> None:
    assert len(CASES) >= 5


@pytest.mark.parametrize("case", CASES)
async def test_a_manifest_leads_to_these_children(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await _children(case, monkeypatch)
    expected = DATA / case / "expected.yaml"
    if os.environ.get("MODELYARD_UPDATE_GOLDEN"):
        expected.write_text(yaml.dump(made, sort_keys=True, Dumper=_Plain))
    assert made == yaml.safe_load(expected.read_text())


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True
