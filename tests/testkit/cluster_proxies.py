"""The proxies that the tests run behind, and clients that see what a proxy does to requests."""

import http.client
import json
import math
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import NormalDist
from types import TracebackType
from typing import Any, Final, Self

import pytest

from modelyard_operator.settings import Profile as KnownAs
from testkit.cluster_lab import GENERIC as GENERIC_GATEWAY
from testkit.cluster_lab import Bench, Lab, Served
from testkit.cluster_traffic import OK, REVISION, TIMEOUT_S, Route

PUBLIC_GATEWAY: Final = "public"
CLIENTS: Final = 4
CONFIDENCE: Final = 0.999
FILE: Final = "handler.py"
HANDLER: Final = """\
import asyncio
import os


async def preprocess(request, ctx):
    if request.parameters.get("exit"):
        os._exit(1)
    await asyncio.sleep(float(request.parameters.get("sleep_s", 0)))


async def stream(request, ctx):
    for number in range(int(request.parameters["parts"])):
        yield {"y": [[number, number]]}
        await asyncio.sleep(float(request.parameters["pause_s"]))
"""
"""A model that answers when it is told to and in as many parts, or is gone when it is told to be."""


@dataclass(frozen=True)
class Profile:
    """A proxy, and how a ModelDeployment asks for it.

    Attributes:
        name: Dialect and proxy.
        known_as: What the operator takes the proxy to be.
        exposure: Fields of `spec.exposure`.
        gateway: Namespace and name of the Gateway; None for Traefik's Ingresses.
        lacks: Fields that the proxy does nothing about, as `FeaturesUnsupported` names them.
        falls_back: The requests of a candidate whose Service is missing go to stable. Without, they
            fail until the operator has seen it, as the Gateway API demands: 500 where the Service
            is missing, 503 where it is so new that nobody knows its pod yet.
    """

    name: str
    known_as: KnownAs
    exposure: Mapping[str, Any]
    gateway: tuple[str, str] | None = None
    lacks: frozenset[str] = frozenset()
    falls_back: bool = False

    def __str__(self) -> str:
        return self.name

    def address(self, lab: Lab, port: int = 80) -> str:
        """Return where the proxy listens; skips the test where the cluster has no such proxy."""
        if self.gateway is None:
            return lab.address("traefik", "traefik", port)
        gateway = lab.api.get("Gateway", *self.gateway)
        if gateway is None:
            pytest.skip(f"the cluster has no Gateway {'/'.join(self.gateway)}")
        return f"{gateway['status']['addresses'][0]['value']}:{port}"

    @contextmanager
    def bench(self, lab: Lab, hint: str) -> Iterator[Bench]:
        """Lend a namespace whose requests go through the proxy."""
        proxy = self.address(lab)
        with lab.bench(hint) as lent:
            yield replace(lent, proxy=proxy)

    def serve(self, bench: Bench, name: str, **spec: Any) -> Served:
        """Create a ModelDeployment with the handler behind the proxy, and wait until it is ready."""
        body = {"metadata": {"name": name}, "data": {FILE: HANDLER}}
        bench.lab.api.create("ConfigMap", bench.namespace, body)
        reference = {"handlerRef": {"configMapName": name, "key": FILE}}
        runtime = {**spec.pop("runtime", {}), **reference}
        exposure = {**spec.pop("exposure", {}), **self.exposure}
        served = bench.serve(name, runtime=runtime, exposure=exposure, **spec)
        served.until_ready()
        return served


def _of_gateway(proxy: KnownAs, namespace: str, *lacks: str, name: str = PUBLIC_GATEWAY) -> Profile:
    reference = {"namespace": namespace, "name": name}
    exposure = {"dialect": "Gateway", "gatewayRef": reference}
    return Profile(f"Gateway/{proxy}", proxy, exposure, (namespace, name), frozenset(lacks))


TIMEOUT: Final = "exposure.timeoutSeconds"
TLS: Final = "exposure.tls"
BACKEND_TLS: Final = "exposure.backendTLS"
VARIANTS: Final = "variants"
PROFILES: Final = (
    Profile(
        "Ingress/traefik",
        "traefik-nginx",
        {"ingressClassName": "nginx"},
        lacks=frozenset({VARIANTS}),
        falls_back=True,
    ),
    _of_gateway("envoy-gateway", "gateways"),
    _of_gateway("traefik", "traefik", TIMEOUT, TLS),
)
GENERIC: Final = _of_gateway("generic", "traefik", TIMEOUT, TLS, BACKEND_TLS, name=GENERIC_GATEWAY)
"""Traefik, of which the operator is told that it knows nothing."""
WITH_GENERIC: Final = (*PROFILES, pytest.param(GENERIC, marks=pytest.mark.at_length))
"""A fourth proxy takes its time: `make routes` and `make chaos` run behind it, `make test` does not."""


def ask_many(route: Route, count: int) -> Counter[str]:
    """Send requests over a few connections; return how many each revision has answered.

    Raises:
        AssertionError: One of them was not answered well.
    """

    def ask(first: int) -> list[str]:
        connection = route.connect()
        try:
            answers = [route.send(connection) for _ in range(first, count, CLIENTS)]
        finally:
            connection.close()
        assert {answer.status for answer in answers} == {OK}
        return [answer.revision for answer in answers]

    with ThreadPoolExecutor(CLIENTS) as clients:
        return Counter(name for names in clients.map(ask, range(CLIENTS)) for name in names)


def likely(count: int, percent: int) -> range:
    """Return how many of `count` requests a random share may get, 999 times of 1,000.

    A proxy that takes the revisions in turn is far closer to the share; it stays inside as well.
    """
    share = percent / 100
    spread = math.sqrt(count * share * (1 - share)) * NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return range(math.ceil(count * share - spread), math.floor(count * share + spread) + 1)


def ask_encrypted(route: Route, proxy: str, authority: str) -> int:
    """Return the status of a request over TLS whose certificate names the route's host.

    Args:
        route: What is asked.
        proxy: Where the proxy listens for TLS.
        authority: The certificate that is trusted, as PEM.

    Raises:
        ssl.SSLError: The proxy has another certificate.
    """
    context = ssl.create_default_context(cadata=authority)
    host, _, port = proxy.partition(":")
    connection = http.client.HTTPConnection(proxy, timeout=TIMEOUT_S)
    plain = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
    with plain, context.wrap_socket(plain, server_hostname=route.host) as connection.sock:
        return route.send(connection).status


@dataclass
class Stream:
    """The server-sent events of one request, read in a thread of its own until somebody leaves.

    Attributes:
        route: Where.
        parts: How many events there are.
        pause_s: From one event to the next.
        status: Status code of the answer.
        revision: Who answers.
        moments: When each event came, by the monotonic clock.
        last: The last event: a stream that fails says why in it.
        error: How it ended before its end; empty if it did not.
    """

    route: Route = field(repr=False)
    parts: int
    pause_s: float
    status: int = 0
    revision: str = ""
    moments: list[float] = field(default_factory=list, repr=False)
    last: str = ""
    error: str = ""
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Say how it went, for whoever finds that it did not flow."""
        gaps = ", ".join(f"{gap:.1f}" for gap in sorted(self._gaps(), reverse=True)[:3])
        return f"{self!r}: {len(self.moments)} events, longest gaps {gaps} s"

    def __enter__(self) -> Self:
        route = self.route
        body = json.dumps({"x": [1, 2, 3, 4], "parts": self.parts, "pause_s": self.pause_s})
        path = f"{route.path}/v2/models/{route.model}/generate_stream"
        headers = {"Content-Type": "application/json", "Host": route.host, **route.headers}
        self._connection = route.connect()
        self._connection.request("POST", path, body, headers)
        answer = self._connection.getresponse()
        self.status, self.revision = answer.status, answer.headers.get(REVISION, "")
        self._thread = threading.Thread(target=self._read, args=(answer,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave, however much is still to come."""
        assert self._connection is not None
        if self._connection.sock:
            with suppress(OSError):  # the other side has left
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self.until_ended()
        self._connection.close()

    def until_ended(self) -> Self:
        """Wait for the last event, or for what came instead."""
        assert self._thread is not None
        self._thread.join()
        return self

    @property
    def flows(self) -> bool:
        """Whether events came one by one until now, none of them much too late."""
        longest = self.pause_s + TIMEOUT_S / 3
        return bool(self.moments) and not self.error and max(self._gaps()) < longest

    @property
    def lasted_s(self) -> float:
        """From the first event to the last, in seconds."""
        return self.moments[-1] - self.moments[0]

    def _gaps(self) -> list[float]:
        moments = [*self.moments, time.monotonic()]
        return [later - earlier for earlier, later in pairwise(moments)]

    def _read(self, answer: http.client.HTTPResponse) -> None:
        rest = b""
        try:
            # By lines, a chunked answer that is cut off would look like one that has ended.
            while part := answer.read1():
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    if line.startswith(b"data:"):
                        self.moments.append(time.monotonic())
                        self.last = line.decode()
        except (OSError, http.client.HTTPException) as error:
            self.error = f"{type(error).__name__}: {error}"
