"""What `modelyard explain` makes of a status that a real cluster has written."""

from datetime import UTC, datetime
from typing import Any

from modelyard_cli.advice import ADVICE
from modelyard_cli.explain import explain
from modelyard_cli.explanation import Seen
from modelyard_cli.view import View
from modelyard_cli.words import Caller


def check_explained(model_deployment: dict[str, Any], reason: str) -> None:
    """Check that the cause and the fix of a failure are told, and a command to run next.

    Args:
        model_deployment: As the API server gives it, while it fails or after the rollback.
        reason: The failure's.
    """
    told = explain(Seen(View.of(model_deployment), Caller(), datetime.now(UTC)))
    assert told.reason == reason, told
    assert ADVICE[reason].meaning in told.text
    assert ADVICE[reason].fix in told.text
    assert told.steps[0].command
