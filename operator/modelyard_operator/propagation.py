"""Whether a proxy has the routes as they are: it is asked, and its answers say who gives them.

An Ingress does not say who has taken it over, and a Gateway's conditions speak for its controller,
which hands the routes on to proxies that may be seconds behind. So the models' health is asked for
through the proxy after each change of a route. Who cannot be asked is given time instead.
"""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from modelyard_operator.observed import Observed
from modelyard_operator.rollout.transitions import SETTLE
from modelyard_operator.runtime_contract import LIVE_PATH
from modelyard_operator.scrape import Scraper
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.store import Key
from modelyard_operator.traffic.dialects import read_routes
from modelyard_operator.traffic.entrance import entrance
from modelyard_operator.traffic.proxy import Problem, Proxy

INTERVAL: Final = timedelta(seconds=0.5)
"""Between questions to a proxy that is behind."""
PATIENCE: Final = timedelta(seconds=60)
"""A proxy that is still behind then has other routes than ours, and the rollout goes on."""
AT_ONCE: Final = 5
"""Requests of one question, each over a connection of its own: there may be several proxies."""
ANY_LABEL: Final = "modelyard"
"""Asked for where a host begins with a wildcard, which stands for any."""


@dataclass
class _Shift:
    """The routes since their last change.

    Attributes:
        at: When that was.
        revisions: Those that get a share of the requests.
        seen: Of them, the ones that have answered since.
        over: It is known that the proxy has the routes, or that it does not tell.
    """

    at: datetime
    revisions: frozenset[str]
    seen: set[str] = field(default_factory=set)
    over: bool = False


@dataclass
class Propagation:
    """Asks proxies after each change of a route.

    Attributes:
        scraper: How they are asked.
        settings: The operator's own settings.
    """

    scraper: Scraper
    settings: OperatorSettings
    _shifts: dict[Key, _Shift] = field(default_factory=dict)

    async def complete(self, observed: Observed, now: datetime) -> Observed:
        """Return the observation with what the proxy lags behind by, if it does.

        Args:
            observed: The live routes, and when they were changed.
            now: Current time, in UTC.
        """
        owner = observed.model_deployment
        proxy = observed.proxy(self.settings, now)
        shift = self._current(Key(owner.namespace, owner.name), observed, proxy, now)
        if shift is None or shift.over:
            return observed
        where = entrance(proxy, observed.exposure, observed.children, owner.name)
        if where is None:
            return observed
        url = f"{where.url}{observed.exposure.path_prefix}{LIVE_PATH}"
        host = observed.exposure.hosts[0].replace("*", ANY_LABEL)
        answers = await asyncio.gather(
            *(self.scraper.answered_by(url, host) for _ in range(AT_ONCE))
        )
        if all(answer is None for answer in answers):
            shift.over = True
            return observed
        problem = _lag(shift, {answer for answer in answers if answer}, now)
        told = shift.seen >= shift.revisions or now >= shift.at + SETTLE
        shift.over = told and problem is None
        return replace(observed, lag=problem)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a ModelDeployment that is gone."""
        self._shifts.pop(key, None)

    def _current(self, key: Key, observed: Observed, proxy: Proxy, now: datetime) -> _Shift | None:
        shifted = observed.shifted
        if shifted is None or now >= shifted + PATIENCE or proxy.leaving or not proxy.routed:
            self.forget(key)
            return None
        routes = read_routes(proxy, key.name, observed.children)
        known = self._shifts.get(key)
        if known is None or (known.at, known.revisions) != (shifted, routes.revisions):
            known = self._shifts[key] = _Shift(shifted, routes.revisions)
        return known


def asks_proxy(observed: Observed, now: datetime) -> datetime | None:
    """Return when to ask the proxy again; None while nothing is known to be missing."""
    return now + INTERVAL if observed.lag else None


def _lag(shift: _Shift, answering: set[str], now: datetime) -> Problem | None:
    """Tell what the proxy has not taken over; a small share may get no request for a while."""
    shift.seen |= answering & shift.revisions
    if others := answering - shift.revisions:
        text = f"the proxy still sends requests to {', '.join(sorted(others))}"
        return Problem("RoutePending", text)
    unseen = shift.revisions - shift.seen
    if answering and unseen and now < shift.at + SETTLE:
        text = f"the proxy has sent no request to {', '.join(sorted(unseen))} yet"
        return Problem("RoutePending", text)
    return None
