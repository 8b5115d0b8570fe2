"""A status may be older than the program, newer, or half written."""

from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from modelyard_cli import view
from modelyard_cli.errors import ApiError
from modelyard_cli.view import View
from modelyard_operator.rollout.state import Rollout as WrittenRollout
from testkit.cli_objects import CANDIDATE, FIGURES, STABLE, model_deployment, rolling


def test_an_object_that_nobody_has_looked_at_is_read() -> None:
    seen = View.of({"metadata": {"name": "fraud", "generation": 1}, "spec": {}})
    assert (seen.stable, seen.candidate, seen.ready) == ("", "", False)
    assert seen.stale
    assert seen.condition("Ready").status == "Unknown"


def test_a_full_status_is_read() -> None:
    seen = View.of(rolling("Analyzing", analysis=FIGURES))
    assert (seen.stable, seen.candidate) == (STABLE, CANDIDATE)
    assert [step.weight for step in seen.rollout.plan] == [5, 25, 50, 100]
    (metric,) = seen.rollout.analysis.metrics
    assert metric.candidate.rate == pytest.approx(61 / 310)
    assert metric.verdict == "Fail"


def test_figures_may_be_a_bare_list() -> None:
    seen = View.of(rolling("Analyzing", analysis=FIGURES["metrics"]))
    assert seen.rollout.analysis.metrics[0].metric == "errors"


def test_null_is_absent_and_unknown_fields_do_not_matter() -> None:
    status = {"url": None, "rollout": {"state": "Idle", "plan": None, "new": {"x": 1}}, "x": 1}
    seen = View.of(model_deployment() | {"status": status})
    assert seen.status.url == ""
    assert seen.rollout.plan == ()


def test_numbers_where_text_is_expected_are_taken() -> None:
    figures = {"metrics": [{"metric": "errors", "eValue": 3.5}]}
    assert (
        View.of(rolling("Analyzing", analysis=figures)).rollout.analysis.metrics[0].e_value == "3.5"
    )


def test_a_status_of_another_shape_is_an_error_that_names_the_field() -> None:
    with pytest.raises(ApiError, match=r"fraud: status\.rollout\.step cannot be read"):
        View.of(model_deployment(rollout={"state": "Idle", "step": "two"}))


def test_ready_of_an_older_generation_is_not_ready() -> None:
    manifest = model_deployment()
    assert View.of(manifest).ready
    manifest["metadata"]["generation"] = 3
    assert not View.of(manifest).ready


def test_every_field_that_is_read_of_a_rollout_is_written_by_the_operator() -> None:
    read = _fields(view.Rollout)
    written = _fields(WrittenRollout)
    assert {"analysis", "limitEValue", "agreement", "lastRollback"} <= read & written
    assert read <= written, f"read, and never written: {sorted(read - written)}"


def _fields(model: type[BaseModel]) -> set[str]:
    """Return the names of all fields as JSON has them, those of the parts included."""
    found: set[str] = set()
    for name, info in model.model_fields.items():
        found.add(info.alias or name)
        for part in _models(info.annotation):
            found |= _fields(part)
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) in {tuple, list, Union, UnionType}:
        return [model for inner in get_args(annotation) for model in _models(inner)]
    return (
        [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
    )
