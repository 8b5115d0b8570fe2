"""The sequential test: evidence that may be looked at after every scrape.

Of the bad events in an interval, which share should fall to one side? If nothing is wrong it is a
known ``share``; if that side is worse, the odds are ``r`` times higher. The likelihood ratio of the
two, multiplied up over the intervals, is an e-process: while nothing is wrong it exceeds 1/alpha at
any time with a probability of at most alpha (Ville's inequality), however often one looks and whenever one
stops. As nobody knows ``r`` beforehand, the mean over a few is taken, which is an e-process too.

Two questions are asked in this way:

- Is the candidate worse than stable? ``share`` is the candidate's share of the requests, and the
  events are the bad ones of both. Given their sum, an outage that both share says nothing.
- Is a rate above its limit? ``share`` is the limit, and the events are all the requests.

References:
    Ville, Étude critique de la notion de collectif, 1939.
    Robbins, Statistical methods related to the law of the iterated logarithm, 1970 (mixtures).
    Lindon, Ham, Tingley, Bojinov, Anytime-valid inference, https://arxiv.org/abs/2205.14762.
    Waudby-Smith, Ramdas, Estimating means of bounded random variables by betting, 2024 (for the
    second question; a bet on a Bernoulli variable is such a likelihood ratio).
    Hoeffding, Probability inequalities for sums of bounded random variables, 1963, section 6 (the
    candidate's part of the bad events is drawn without replacement, which only lowers the mean).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

RATIOS: Final = (1.5, 2.0, 3.0, 5.0, 10.0)
"""How many times worse the odds may be: the alternatives that are mixed, with equal parts."""
NOTHING: Final = (0.0,) * len(RATIOS)
"""Logarithms of the e-values before anything was seen."""


def log_ratios(share: float, inside: float, outside: float) -> tuple[float, ...]:
    """Return what one interval adds to the logarithms of the e-values.

    With theta = r*s / (r*s + 1 - s) this is a*ln(theta/s) + b*ln((1-theta)/(1-s)), put so that
    nothing is divided by a share.

    Args:
        share: Share of the events that falls inside if nothing is wrong, from 0 to 1.
        inside: Events that fell inside; at least 0.
        outside: Events that did not; at least 0.

    Returns:
        One number for each of ``RATIOS``; positive where the alternative explains the events better.
        Infinite if something happened that cannot, which is an event inside with a share of 0.
    """
    if share <= 0 < inside:
        return (math.inf,) * len(RATIOS)
    events = inside + outside
    return tuple(inside * math.log(r) - events * math.log1p((r - 1) * share) for r in RATIOS)


def add(
    log_e: Sequence[float], ratios: Iterable[float], *, trust: float = 1.0
) -> tuple[float, ...]:
    """Add an interval to the logarithms of the e-values.

    Args:
        log_e: The sums so far, empty before the first interval.
        ratios: What ``log_ratios`` says of the interval.
        trust: Above 0, at most 1: how much of what speaks against is believed. Less than all makes every
            factor smaller, so that the bound on false alarms holds whatever it depends on.
    """
    return tuple(
        before + (ratio * trust if ratio > 0 else ratio)
        for before, ratio in zip(log_e or NOTHING, ratios, strict=True)
    )


def restart(log_e: Sequence[float]) -> tuple[float, ...]:
    """Begin a window: what was gathered stays, and a fresh e-value of 1 is laid beside it.

    A candidate that was good for long and turns bad at a higher weight would otherwise first have to
    use up its good name. The sum over k windows is k times an e-process, and so is held against a
    bound that is k times as high.

    Args:
        log_e: The sums so far; empty at the first window, which begins with 1 alone.
    """
    return tuple(max(one, 0.0) + math.log1p(math.exp(-abs(one))) for one in log_e) or NOTHING


def e_value(log_e: Sequence[float]) -> float:
    """Return the mean of the e-values, at most the largest float.

    Args:
        log_e: Their logarithms, empty before the first interval.
    """
    highest = max(log_e, default=0.0)
    if highest > _LARGEST:
        return math.inf
    return math.fsum(math.exp(one - highest) for one in log_e or NOTHING) * (
        math.exp(highest) / len(RATIOS)
    )


_LARGEST: Final = 700.0
"""Beyond it the exponential overflows."""
