"""Whether anybody can come in: pods say how many keys they were given.

The operator may not read Secrets, and a pod starts without the one that holds its keys; so a missing
one would only show in answers 401.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog
from pydantic import BaseModel, ValidationError

from modelyard_operator.observed import Observed
from modelyard_operator.pods import is_ready
from modelyard_operator.scrape import Scraper
from modelyard_operator.sources import pod_addresses
from modelyard_operator.spec import AuthSpec
from modelyard_operator.store import Key

CALLERS_INTERVAL: Final = timedelta(seconds=10)
"""Between looks while nobody can come in; otherwise a pass that something else causes looks."""

log: Final = structlog.get_logger(__name__)


class _Keys(BaseModel):
    principals: int
    jwks: bool


class _Document(BaseModel):
    keys: _Keys


@dataclass
class Callers:
    """Asks one ready pod of each ModelDeployment that asks for keys.

    Attributes:
        scraper: How it is asked.
    """

    scraper: Scraper
    _known: dict[Key, tuple[datetime, bool]] = field(default_factory=dict)

    async def locked_out(self, observed: Observed, now: datetime) -> bool:
        """Tell whether a ready pod has no key to let anybody in with; no answer is no reason.

        Args:
            observed: Pods and spec.
            now: Current time, in UTC.
        """
        owner = observed.model_deployment
        key = Key(owner.namespace, owner.name)
        auth = owner.spec.exposure.auth
        pods = [pod for pod in observed.pods if is_ready(pod)] if _needs_keys(auth) else []
        if not pods:
            self._known.pop(key, None)
            return False
        asked, locked = self._known.get(key, (None, False))
        if asked is not None and now - asked < CALLERS_INTERVAL:
            return locked
        answers = await self.scraper.read_pods(pod_addresses(pods[-1:]), "/status")
        for text in answers.values():
            locked = _is_locked(auth, text)
        self._known[key] = (now, locked)
        return locked


def _needs_keys(auth: AuthSpec) -> bool:
    return auth.type == "APIKey" or (auth.type == "JWT" and auth.jwks_uri is None)


def _is_locked(auth: AuthSpec, text: str) -> bool:
    try:
        keys = _Document.model_validate_json(text).keys
    except ValidationError as error:  # a runtime of before, which does not say
        log.debug("keys are not counted", error=str(error))
        return False
    return not keys.jwks if auth.type == "JWT" else keys.principals == 0
