"""Clients of a model: requests through the proxy, one by one or as a steady load."""

import http.client
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import httpx

OK: Final = 200
ROW: Final = (1.0, 2.0, 3.0, 4.0)
REVISION: Final = "X-Modelyard-Revision"
TIMEOUT_S: Final = 30.0
COUNTED: Final = re.compile(r"^modelyard_requests_total\{.*\} (\S+)$", re.MULTILINE)


class Answer(NamedTuple):
    """What came back; status 0 means that nothing did. Some proxies write headers in lower case."""

    status: int
    revision: str
    body: bytes
    headers: httpx.Headers

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


class Sample(NamedTuple):
    """One request of a load: when it was sent, and how it went."""

    at: float
    status: int
    revision: str
    error: str


def requests_counted(address: str) -> float:
    """Return how many requests a pod says it has answered.

    Raises:
        httpx.HTTPError: It does not say: it is starting, or ending.
    """
    text = httpx.get(f"http://{address}:8082/metrics", timeout=2).text
    return sum(float(value) for value in COUNTED.findall(text))


def infer_body(*, rows: int = 1, **changes: Any) -> bytes:
    """Return a valid request, with changes to its only input."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, len(ROW)], "data": list(ROW) * rows}
    return json.dumps({"inputs": [tensor | changes]}).encode()


@dataclass(frozen=True)
class Route:
    """Where a model is asked.

    Attributes:
        proxy: Address of the proxy, `host:port`.
        host: Host of the route; empty for the address itself.
        model: Served name.
        path: Path of the route, without a slash at the end.
        headers: Sent with each request, a key for instance.
    """

    proxy: str
    host: str
    model: str
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def infer_path(self) -> str:
        return f"{self.path}/v2/models/{self.model}/infer"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.proxy, timeout=TIMEOUT_S)

    def send(
        self, connection: http.client.HTTPConnection, body: bytes | None = None, path: str = ""
    ) -> Answer:
        """Send one request: an inference, or what is asked for."""
        method = "GET" if path and body is None else "POST"
        content = infer_body() if method == "POST" and body is None else body
        host = {"Host": self.host} if self.host else {}
        headers = {"Content-Type": "application/json", **host, **self.headers}
        connection.request(method, path or self.infer_path, body=content, headers=headers)
        got = connection.getresponse()
        named = httpx.Headers(got.getheaders())
        return Answer(got.status, named.get(REVISION, ""), got.read(), named)

    def ask(self, body: bytes | None = None, path: str = "") -> Answer:
        """Send one request over a connection of its own."""
        connection = self.connect()
        try:
            return self.send(connection, body, path)
        finally:
            connection.close()

    def version(self) -> float:
        """Return the version of the model that answers, as its outputs tell."""
        answer = self.ask()
        assert answer.status == OK, answer
        return float(answer.document["outputs"][0]["data"][0]) / sum(ROW)


@dataclass
class Load:
    """Keeps asking until told to stop, over connections that stay open.

    Attributes:
        route: Where.
        threads: Clients.
        pause_s: From one request of a client to its next, or to the answer if that takes longer.
        bodies: One of them is drawn for each request; empty for the usual one. Drawn and not taken
            in turn, since a proxy takes the revisions in turn.
        samples: Every request so far.
    """

    route: Route
    threads: int = 4
    pause_s: float = 0.1
    bodies: Sequence[bytes] = ()
    samples: list[Sample] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _running: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for _ in range(self.threads):
            thread = threading.Thread(target=self._run, daemon=True)
            thread.start()
            self._running.append(thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join()

    @property
    def failed(self) -> list[Sample]:
        """Requests without a good answer."""
        return [sample for sample in self.samples if sample.status != OK]

    def until_answered_by(self, revision: str, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until the proxy sends requests to a revision, from now on."""
        begun = time.monotonic()
        while revision not in {one.revision for one in self.samples[-50:] if one.at >= begun}:
            assert time.monotonic() < begun + timeout_s, f"{revision} has got no request"
            time.sleep(self.pause_s)

    def shares(self, since: float, until: float) -> dict[str, float]:
        """Return each revision's share of the requests sent between two moments."""
        counts = Counter(one.revision for one in self.samples if since <= one.at <= until)
        total = counts.total()
        return {revision: count / total for revision, count in counts.items()}

    def _run(self) -> None:
        connection = self.route.connect()
        bodies, at = self.bodies or (infer_body(),), time.monotonic()
        while not self._stop.wait(max(0.0, at + self.pause_s - time.monotonic())):
            at = time.monotonic()
            try:
                answer = self.route.send(connection, random.choice(bodies))  # noqa: S311 -- a load
            except (OSError, http.client.HTTPException) as error:
                self.samples.append(Sample(at, 0, "", f"{type(error).__name__}: {error}"))
                connection.close()
            else:
                error_text = "" if answer.status == OK else answer.body[:200].decode()
                self.samples.append(Sample(at, answer.status, answer.revision, error_text))
        connection.close()
