"""From the write of a weight to what clients see of it."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from modelyard_operator.resources import names
from modelyard_operator.traffic.ingress import backend_of, canary_weight_of
from testkit.beside import Beside
from testkit.cluster_api import Manifest
from testkit.cluster_lab import Served
from testkit.cluster_traffic import Sample

WATCH_S: Final = 2.0
"""So long a watcher takes to notice that nobody is interested any more."""


@dataclass
class Shifts(Beside):
    """Notes when the API server tells of new weights in a model's route, in a thread of its own.

    Attributes:
        served: The ModelDeployment.
        written: Moments, by the monotonic clock, each with the percents that revisions get from
            then on. An Ingress tells of the candidate's alone.
    """

    served: Served
    written: list[tuple[float, Mapping[str, int]]] = field(default_factory=list)

    def written_at(self, revision: str, weight: int) -> float:
        """Return when a revision was given a percent for the last time."""
        moments = [
            at
            for (_, before), (at, now) in pairwise(self.written)
            if before.get(revision, 0) != weight == now.get(revision, 0)
        ]
        return moments[-1]

    def _run(self) -> None:
        kind, name = "Ingress", names.canary_ingress(self.served.name)
        if self.served.get()["spec"]["exposure"]["dialect"] == "Gateway":
            kind, name = "HTTPRoute", self.served.name
        while not self._stop.is_set():
            for seen in self.served.api.watch(kind, self.served.namespace, name, WATCH_S):
                at, now = time.monotonic(), _weights(seen)
                if not self.written or self.written[-1][1] != now:
                    self.written.append((at, now))


def first_answer_s(samples: Iterable[Sample], revision: str, since: float) -> float:
    """Return the seconds until a request was sent that a revision, unknown before, has answered."""
    return min(one.at for one in samples if one.revision == revision) - since


def last_answer_s(samples: Iterable[Sample], revision: str, since: float) -> float:
    """Return the seconds until the last request was sent that a revision has answered."""
    return max(0.0, max(one.at for one in samples if one.revision == revision) - since)


def _weights(route: Manifest | None) -> dict[str, int]:
    if route is None:
        return {}
    if route["kind"] == "Ingress":
        return {str(backend_of(route)): canary_weight_of(route)}
    weights = {one["name"]: one["weight"] for one in route["spec"]["rules"][0]["backendRefs"]}
    return {name: 100 * weight // sum(weights.values()) for name, weight in weights.items()}
