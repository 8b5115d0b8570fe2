"""What each failure means and what to do about it: reason → two sentences and a command.

The operator's ``status.failure`` says what happened, with names and figures. This adds what a person
needs beside it who sees the reason for the first time. A reason that is not here is shown in the
operator's own words.

References:
    docs/reference/failures.md, every reason with its cause and fix.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from modelyard_cli.advice.advice import LOOK_AT_PODS, Advice, Trouble
from modelyard_cli.advice.model import MODEL
from modelyard_cli.advice.objects import OBJECTS
from modelyard_cli.advice.placement import PLACEMENT
from modelyard_cli.advice.pods import PODS

ADVICE: Final[Mapping[str, Advice]] = MappingProxyType({**MODEL, **PODS, **PLACEMENT, **OBJECTS})
"""By the reason in ``status.failure``."""

__all__ = ["ADVICE", "LOOK_AT_PODS", "Advice", "Trouble", "advise"]


def advise(trouble: Trouble) -> Advice | None:
    """Return what to say about a failure; None for a reason that is not known here."""
    return ADVICE.get(trouble.failure.reason)
