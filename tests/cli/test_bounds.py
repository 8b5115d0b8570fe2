"""The bound that is shown is the one that the operator judges by."""

from typing import Any

import pytest

from modelyard_cli.bounds import failing_e_value
from modelyard_cli.view import View
from modelyard_operator.analysis.verdicts import Question
from modelyard_operator.spec import AnalysisSpec
from testkit.cli_objects import PLAN, model_deployment, rolling

SPECS: list[dict[str, Any]] = [
    {},
    {"alpha": "0.05"},
    {"metrics": []},
    {"metrics": [{"name": "errors", "builtin": "Errors", "max": "0.01"}]},
    {
        "alpha": "0.001",
        "metrics": [
            {"name": "errors", "builtin": "Errors"},
            {"name": "slow", "builtin": "Slow", "thresholdMilliseconds": 500, "max": "0.05"},
            {"name": "drift", "query": "x", "max": "0.2"},
        ],
    },
]


@pytest.mark.parametrize("analysis", SPECS)
@pytest.mark.parametrize("plan", [PLAN, PLAN[-1:]])
def test_it_is_the_operators(analysis: dict[str, Any], plan: list[dict[str, Any]]) -> None:
    below = max(1, sum(step["weight"] < 100 for step in plan))
    question = Question(AnalysisSpec.model_validate(analysis), comparisons=below)
    view = View.of(rolling("Analyzing", {"rollout": {"analysis": analysis}}, plan=plan))
    assert failing_e_value(view) == pytest.approx(question.comparison_bound)


def test_without_steps_there_is_none() -> None:
    assert failing_e_value(View.of(model_deployment())) is None
