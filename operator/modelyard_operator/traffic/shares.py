"""Shares of the requests per mille: the variants take theirs, and the rollout divides what is left.

With a tenth left at least, no share of a percent of it vanishes, and each is read back as it was.
"""

from collections.abc import Mapping
from typing import Final

from modelyard_operator.rollout.transitions import FULL

WHOLE: Final = 1000
"""All requests, in per mille."""
LARGEST: Final = 90
"""Percent that the variants may take together."""


def divide(pair: Mapping[str, int], variants: Mapping[str, int]) -> dict[str, int]:
    """Return the per mille of all requests that each revision gets; together ``WHOLE``, or none.

    Args:
        pair: Percent of what the variants leave, by revision; 100 together, the primary first.
        variants: Percent of all requests, by revision; at most ``LARGEST`` together.
    """
    if not pair:
        return {}
    rest = WHOLE - sum(variants.values()) * WHOLE // FULL
    primary, *others = pair
    shares = {name: (rest * pair[name] + FULL // 2) // FULL for name in others}
    return {
        primary: rest - sum(shares.values()),
        **shares,
        **{name: percent * WHOLE // FULL for name, percent in variants.items()},
    }


def percent(part: int, whole: int) -> int:
    """Return which percent of something a part of it is, to the nearest one."""
    return (2 * FULL * part + whole) // (2 * whole)
