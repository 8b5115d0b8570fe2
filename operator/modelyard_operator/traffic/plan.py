"""The neutral description of a ModelDeployment's routes."""

from dataclasses import dataclass

from modelyard_operator.rollout.routing import Backends
from modelyard_operator.spec import ExposureSpec, MatchSpec
from modelyard_operator.traffic.capabilities import Proxy


@dataclass(frozen=True)
class TrafficPlan:
    """Who gets which share of the requests for which hosts and path.

    Attributes:
        exposure: Hosts, path, limits and certificate, as the user wrote them.
        proxy: The proxy that the routes are written for.
        backends: Revisions and the share of the second; a revision's Service has its name.
        match: Requests that go to the second whatever its share.
    """

    exposure: ExposureSpec
    proxy: Proxy
    backends: Backends
    match: tuple[MatchSpec, ...] = ()

    @property
    def weights(self) -> dict[str, int]:
        """Percent that each revision should get; empty while nothing can serve."""
        primary, canary = self.backends.primary, self.backends.canary
        if primary is None:
            return {}
        if canary is None or canary == primary:
            return {primary: 100}
        return {primary: 100 - self.backends.weight, canary: self.backends.weight}
