"""What the evidence says, in the words that the rollout machine acts on."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NO_TRAFFIC: Final = "NoTraffic"
"""Reason of a judgement when neither revision was asked for anything."""
MOST_ERRORS: Final = 5
"""Scrapes in a row that may fail before that becomes the verdict, and a person is asked."""


class Verdict(StrEnum):
    """Where a question about a revision stands."""

    PASS = "Pass"  # noqa: S105 - a verdict
    """Enough was seen of both revisions, and nothing speaks against the candidate."""
    FAIL = "Fail"
    """The evidence against the candidate has reached its bound."""
    INCONCLUSIVE = "Inconclusive"
    """The time is up and too little was seen, or what was seen is no number."""
    ERROR = "Error"
    """The source of the figures cannot be read."""
    UNDECIDED = "Undecided"
    """More has to be seen; there is time."""


@dataclass(frozen=True)
class Judgement:
    """A verdict and its grounds.

    Attributes:
        verdict: What was found.
        reason: CamelCase word for a condition or an Event; empty while there is nothing to say.
        message: A sentence with the figures: requests, bad ones, e-value, since when.
    """

    verdict: Verdict
    reason: str = ""
    message: str = ""
