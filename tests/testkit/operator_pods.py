"""Pods that count requests and answer scrapes, for tests without a cluster."""

from collections import Counter
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

import orjson

from modelyard_operator.errors import ScrapeError
from modelyard_operator.scrape import Scraper

Signature = Mapping[str, tuple[str, list[int]]]

SIGNATURE: Final[Signature] = {"x": ("FP32", [-1, 30])}


class AnsweringPod:
    """One pod's counters and status."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.codes: Counter[int] = Counter()
        self.slow = 0
        self.invalid = 0
        self.shadow: Counter[str] = Counter()
        self.inputs: Signature = SIGNATURE
        self.verification: Mapping[str, object] | None = None
        self.answers = True

    def count(self, good: int = 0, bad: int = 0, code: int = 500) -> None:
        self.codes[200] += good
        self.codes[code] += bad

    def restart(self) -> None:
        self.codes.clear()
        self.slow = self.invalid = 0
        self.shadow.clear()

    def text(self, path: str) -> str:
        if not self.answers:
            raise ScrapeError("no answer")
        return {"/metrics": self._metrics, "/status": self._status}[path]()

    def _metrics(self) -> str:
        labels = f'model="fraud",version="8",revision="{self.revision}"'
        total = sum(self.codes.values())
        lines = [
            *(
                f'modelyard_requests_total{{{labels},protocol="http",code="{code}"}} {n}'
                for code, n in self.codes.items()
            ),
            f"modelyard_request_duration_seconds_count{{{labels}}} {total}",
            f'modelyard_request_duration_seconds_bucket{{{labels},le="0.5"}} {total - self.slow}',
            f"modelyard_invalid_output_total{{{labels}}} {self.invalid}",
            *(f"modelyard_shadow_{name}_total{{{labels}}} {n}" for name, n in self.shadow.items()),
        ]
        return "\n".join([*lines, ""])

    def _status(self) -> str:
        tensors = [
            {"name": name, "datatype": datatype, "shape": shape}
            for name, (datatype, shape) in self.inputs.items()
        ]
        model = {"name": "fraud", "version": "1", "inputs": tensors, "outputs": []}
        status = {"state": "Ready", "models": [model], "verification": self.verification}
        return orjson.dumps(status).decode()


class AnsweringPods(Scraper):
    """All pods of a test, by IP address; one that is not known does not answer."""

    def __init__(self) -> None:
        self.pods: dict[str, AnsweringPod] = {}
        self.asked: list[tuple[str, str]] = []
        self.mute = False
        self.mute_prometheus = False
        self.values: dict[str, float] = {}
        """What Prometheus gives for a query."""
        self.queries: list[str] = []

    async def read_pods(self, addresses: Mapping[str, str], path: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, address in addresses.items():
            self.asked.append((address, path))
            pod = self.pods.get(address)
            if pod is not None and pod.answers and not self.mute:
                found[name] = pod.text(path)
        return found

    async def get(self, url: str) -> str:
        if self.mute_prometheus:
            raise ScrapeError("no answer")
        query = parse_qs(urlsplit(url).query)["query"][0]
        self.queries.append(query)
        value = self.values.get(query)
        result = [] if value is None else [{"metric": {}, "value": [0, str(value)]}]
        data = {"resultType": "vector", "result": result}
        return orjson.dumps({"data": data}).decode()

    def scraped(self) -> list[str]:
        return [address for address, path in self.asked if path == "/metrics"]

    def of(self, revision: str) -> list[AnsweringPod]:
        return [pod for pod in self.pods.values() if pod.revision == revision]
