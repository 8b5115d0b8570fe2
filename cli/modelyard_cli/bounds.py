"""How much evidence is enough: the e-value at which a comparison with stable fails.

References:
    docs/reference/analysis.md: the bound is metrics and limits, times steps below 100 %, by alpha.
"""

from collections.abc import Mapping
from typing import Any, Final

from modelyard_cli.view import View

DEFAULT_ALPHA: Final = "0.01"
DEFAULT_METRICS: Final = 3
"""Errors, rejected requests and invalid outputs, none of them with a limit."""
FULL: Final = 100


def failing_e_value(view: View) -> float | None:
    """Return the e-value at which a comparison fails; None where no rollout has steps.

    Args:
        view: The ModelDeployment.
    """
    if not view.rollout.plan:
        return None
    analysis = view.spec_at("rollout", "analysis")
    analysis = analysis if isinstance(analysis, Mapping) else {}
    steps = sum(step.weight < FULL for step in view.rollout.plan)
    alpha = float(analysis.get("alpha") or DEFAULT_ALPHA)
    return max(1, steps) * _tests(analysis.get("metrics")) / alpha


def _tests(metrics: list[Mapping[str, Any]] | None) -> int:
    """Count what is tested: each counted metric, and its limit. A query is no test."""
    if metrics is None:
        return DEFAULT_METRICS
    counted = [metric for metric in metrics if metric.get("query") is None]
    return len(counted) + sum(metric.get("max") is not None for metric in counted)
