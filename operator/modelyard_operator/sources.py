"""Where the counters of an analysis come from: the pods themselves, or Prometheus.

Both give the same: what the counters of each pod of a revision say now.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import structlog

from modelyard_operator.analysis.counters import (
    Counters,
    InvalidExpositionError,
    Series,
    parse_counters,
    series_of,
)
from modelyard_operator.errors import ScrapeError
from modelyard_operator.scrape import Scraper

PROMETHEUS_INTERVAL: Final = timedelta(seconds=30)

Manifest = dict[str, Any]

log: Final = structlog.get_logger(__name__)


class Source(Protocol):
    """Reads the counters of a revision's pods."""

    @property
    def interval(self) -> timedelta:
        """How often there is something new to read."""

    async def read(
        self, revision: str, pods: Sequence[Manifest], names: Sequence[str]
    ) -> dict[str, Counters]:
        """Return the counters of each pod that could be read.

        Args:
            revision: Whose pods.
            pods: Those of them that are ready.
            names: Names of the samples that are wanted.

        Raises:
            ScrapeError: There is a pod, and nothing could be read.
        """


@dataclass(frozen=True)
class PodSource:
    """Scrapes the pods."""

    scraper: Scraper
    interval: timedelta = timedelta(seconds=5)

    async def read(
        self, revision: str, pods: Sequence[Manifest], names: Sequence[str]
    ) -> dict[str, Counters]:
        """See ``Source``."""
        addresses = pod_addresses(pods)
        found: dict[str, Counters] = {}
        for pod, text in (await self.scraper.read_pods(addresses, "/metrics")).items():
            try:
                found[pod] = parse_counters(text, names)
            except InvalidExpositionError as error:
                log.warning("metrics do not parse", revision=revision, error=str(error))
        if addresses and not found:
            raise ScrapeError(f"none of {len(addresses)} pods of {revision} answers on /metrics")
        return found


@dataclass(frozen=True)
class PrometheusSource:
    """Asks Prometheus for the counters of the pods that it scrapes.

    Attributes:
        scraper: How it is asked.
        url: Its address, without ``/api``; empty: there is none.
        namespace: Where the pods run: two namespaces may have revisions of one name.
    """

    scraper: Scraper
    url: str
    namespace: str
    interval: timedelta = PROMETHEUS_INTERVAL
    """Two scrapes of most Prometheus servers: in less time only some pods have news."""

    async def read(
        self, revision: str, pods: Sequence[Manifest], names: Sequence[str]
    ) -> dict[str, Counters]:
        """See ``Source``; a revision that Prometheus has not scraped yet has no counters."""
        del pods  # Prometheus has found them itself
        found: defaultdict[str, dict[Series, float]] = defaultdict(dict)
        for name in names:
            selector = f'{name}{{namespace="{self.namespace}",revision="{revision}"}}'
            for labels, value in await self._query(f"sum by (pod, code, le) ({selector})"):
                try:
                    found[labels.get("pod", "")][series_of(name, labels)] = value
                except ValueError as error:
                    raise ScrapeError(f"Prometheus: {name}: {error}") from error
        return dict(found)

    async def value(self, query: str, revision: str) -> float | None:
        """Evaluate a metric's own query.

        Args:
            query: PromQL; ``{{revision}}`` stands for the revision's name.
            revision: That name.

        Returns:
            The value; None for an empty answer, several series, or what is no number.

        Raises:
            ScrapeError: Prometheus does not answer, or does not take the query.
        """
        found = await self._query(query.replace("{{revision}}", revision))
        if len(found) != 1 or not math.isfinite(found[0][1]):
            return None
        return found[0][1]

    async def _query(self, query: str) -> list[tuple[dict[str, str], float]]:
        if not self.url:
            raise ScrapeError("MODELYARD_OPERATOR_PROMETHEUS_URL: expected an address, got none")
        asked = urlencode({"query": query})
        text = await self.scraper.get(f"{self.url.rstrip('/')}/api/v1/query?{asked}")
        try:
            data = json.loads(text)["data"]
            if data["resultType"] == "scalar":
                return [({}, float(data["result"][1]))]
            return [(one["metric"], float(one["value"][1])) for one in data["result"]]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ScrapeError(
                f"Prometheus: expected a vector or a scalar, got {text[:200]!r}"
            ) from error


def pod_addresses(pods: Sequence[Manifest]) -> dict[str, str]:
    """Return the IP addresses of pods that have one, by uid."""
    addresses = {pod["metadata"]["uid"]: pod.get("status", {}).get("podIP") for pod in pods}
    return {uid: address for uid, address in addresses.items() if address}
