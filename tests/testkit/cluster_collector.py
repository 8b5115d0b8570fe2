"""A pod that takes spans as an OpenTelemetry collector does, and hands them back."""

import json
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from testkit.cluster_api import Manifest
from testkit.cluster_lab import SLIM_IMAGE, Bench

PORT: Final = 4318
"""Of OTLP over HTTP."""
SENT_S: Final = 30.0
"""Until a span has arrived: the exporter sends every five seconds."""
_CODE: Final = f"""
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

taken = []

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        taken.append({{"path": self.path, "body": body.hex()}})
        self.answer(b"")

    def do_GET(self):
        self.answer(json.dumps(taken).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("", {PORT}), Handler).serve_forever()
"""
"""The runtime's image has a Python, and no collector."""


@dataclass(frozen=True)
class Collector:
    """A running collector.

    Attributes:
        url: What the runtime is told to send to.
    """

    url: str

    def spans(self) -> list[Any]:
        """Return every span so far, each with the attributes of its resource."""
        with urllib.request.urlopen(self.url, timeout=10) as answer:  # noqa: S310 - our own pod
            taken = json.load(answer)
        assert {each["path"] for each in taken} <= {"/v1/traces"}
        requests = [ExportTraceServiceRequest.FromString(bytes.fromhex(t["body"])) for t in taken]
        return [
            (span, attributes(group.resource))
            for request in requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    def until(self, holds: Callable[[list[Any]], bool]) -> list[Any]:
        """Wait for spans."""
        deadline = time.monotonic() + SENT_S
        while not holds(found := self.spans()):
            assert time.monotonic() < deadline, [span.name for span, _ in found]
            time.sleep(0.5)
        return found


def attributes(described: Any) -> dict[str, Any]:
    """Return the attributes of a span or a resource."""
    return {a.key: a.value.string_value or a.value.int_value for a in described.attributes}


def start_collector(bench: Bench, name: str) -> Collector:
    """Start a collector in a namespace, and wait until it listens."""
    api = bench.lab.api
    api.create("Pod", bench.namespace, _pod(name))
    pod = api.until("Pod", bench.namespace, name, _is_ready)
    return Collector(f"http://{pod['status']['podIP']}:{PORT}")


def _pod(name: str) -> Manifest:
    container = {
        "name": "collector",
        "image": SLIM_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", _CODE],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def _is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
