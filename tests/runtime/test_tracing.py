"""Spans of requests, as a collector receives them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import httpx

    from modelyard_runtime.service import Service

INFER = "/v2/models/m/infer"
BODY = models.request("x", "FP32", [1, 4], [1, 2, 3, 4])
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Collector:
    """An OTLP receiver."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.url = ""

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {a.key: a.value.string_value for a in group.resource.attributes}
            self.resources.append(attributes)
            self.spans += [span for scope in group.scope_spans for span in scope.spans]

    def roots(self) -> list[Any]:
        return [span for span in self.spans if span.name.startswith("inference")]

    def children(self, parent: Any) -> dict[str, Any]:
        return {s.name: s for s in self.spans if s.parent_span_id == parent.span_id}


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@asynccontextmanager
async def traced(
    folder: Path, endpoint: str, ratio: float = 1.0, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    model = models.linear_onnx(folder / "model.onnx")
    directives = folder / "directives.json"
    tracing = {"otlpEndpoint": endpoint, "samplingRatio": ratio}
    directives.write_text(json.dumps({"tracing": tracing}))
    async with serving(model, directives_file=directives, **settings) as (client, service):
        await asyncio.to_thread(wait_for_tracing, service, on=True)
        yield client, service


def wait_for_tracing(service: Service, *, on: bool) -> None:
    while service.tracing.on is not on:
        pass


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


async def test_a_span_for_the_request_and_one_for_each_stage(tmp_path: Path) -> None:
    with collecting() as collector:
        where = f"{collector.url}/"
        async with traced(tmp_path, where, model_version="8", revision="m-1") as (client, _):
            headers = {"traceparent": PARENT, "X-Request-Id": "r-1"}
            assert (await client.post(INFER, json=BODY, headers=headers)).status_code == 200
        (root,) = collector.roots()
        assert root.name == "inference m"
        assert root.trace_id.hex() == TRACE
        assert root.parent_span_id.hex() == "b7ad6b7169203331"
        found = attributes(root)
        assert found["modelyard.request_id"] == "r-1"
        assert found["modelyard.version"] == "8"
        assert found["modelyard.revision"] == "m-1"
        assert found["http.response.status_code"] == 200
        stages = collector.children(root)
        assert set(stages) == {"decode", "queue", "forward", "encode"}
        times = [root.start_time_unix_nano]
        for name in ("decode", "queue", "forward", "encode"):
            times += [stages[name].start_time_unix_nano, stages[name].end_time_unix_nano]
        times.append(root.end_time_unix_nano)
        rounding_ns = 1000
        assert all(a <= b + rounding_ns for a, b in pairwise(times))
        assert collector.resources[0]["service.name"] == "modelyard-runtime"


async def test_a_callers_decision_is_followed(tmp_path: Path) -> None:
    unwanted = PARENT[:-1] + "0"
    with collecting() as collector:
        async with traced(tmp_path, collector.url, ratio=0) as (client, _):
            await client.post(INFER, json=BODY)
            await client.post(INFER, json=BODY, headers={"traceparent": PARENT})
            await client.post(INFER, json=BODY, headers={"traceparent": "rubbish"})
        assert [root.trace_id.hex() for root in collector.roots()] == [TRACE]
    with collecting() as collector:
        async with traced(tmp_path, collector.url) as (client, _):
            await client.post(INFER, json=BODY, headers={"traceparent": unwanted})
            await client.post(INFER, json=BODY)
        assert len(collector.roots()) == 1
        assert collector.roots()[0].trace_id.hex() != TRACE


async def test_what_fails_says_so(tmp_path: Path) -> None:
    with collecting() as collector:
        async with traced(tmp_path, collector.url) as (client, _):
            await client.post(INFER, json=models.request("x", "FP32", [1, 3], [1, 2, 3]))
            await client.post("/v2/models/other/infer", json=BODY)
        bad, unknown = collector.roots()
        assert attributes(bad)["error.type"] == "invalid_input"
        assert (bad.name, attributes(bad)["http.response.status_code"]) == ("inference m", 400)
        assert collector.children(bad) == {}
        assert (unknown.name, attributes(unknown)["error.type"]) == ("inference", "model_not_found")


async def test_the_trace_is_named_where_the_request_is_counted_and_recorded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with collecting() as collector:
        async with traced(tmp_path, collector.url) as (client, service):
            await client.post(INFER, json=BODY, headers={"traceparent": PARENT})
            await client.post(INFER, json={}, headers={"traceparent": PARENT})
            exemplars = [
                sample.exemplar.labels
                for family in service.metrics.registry.collect()
                for sample in family.samples
                if sample.exemplar
            ]
    assert {"trace_id": TRACE} in exemplars
    logged = [line for line in capfd.readouterr().out.splitlines() if '"event":"request"' in line]
    assert [json.loads(line)["trace_id"] for line in logged] == [TRACE]


async def test_hooks_find_whose_children_they_are(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    handler = tmp_path / "handler.py"
    handler.write_text(
        "from pathlib import Path\n"
        "from opentelemetry import trace\n"
        "def preprocess(request, ctx):\n"
        "    found = trace.get_current_span().get_span_context()\n"
        f"    Path({str(seen)!r}).write_text(f'{{found.trace_id:032x}} {{found.span_id:016x}}')\n"
    )
    with collecting() as collector:
        async with traced(tmp_path, collector.url, handler_file=handler) as (client, _):
            headers = {"traceparent": PARENT}
            assert (await client.post(INFER, json=BODY, headers=headers)).status_code == 200
        (root,) = collector.roots()
    assert seen.read_text() == f"{TRACE} {root.span_id.hex()}"


async def test_copies_belong_to_the_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def send(session: Any, base: str, copy: Any) -> bool:
        del session, base
        sent.put_nowait(copy.headers)
        return True

    monkeypatch.setattr("modelyard_runtime.shadow.sender._compared", send)
    with collecting() as collector:
        async with traced(tmp_path, collector.url) as (client, service):
            path = tmp_path / "directives.json"
            shadow = {"url": "http://127.0.0.1:9", "percent": 100, "token": "t"}
            path.write_text(json.dumps(json.loads(path.read_text()) | {"shadow": shadow}))
            service.directives.poll()
            await client.post(INFER, json=BODY, headers={"traceparent": PARENT})
            copied = await sent.get()
        (root,) = collector.roots()
    assert copied["traceparent"] == f"00-{TRACE}-{root.span_id.hex()}-01"


async def test_it_is_switched_while_it_runs(tmp_path: Path) -> None:
    with collecting() as first, collecting() as second:
        async with traced(tmp_path, first.url) as (client, service):
            await client.post(INFER, json=BODY)
            path = tmp_path / "directives.json"
            path.write_text("{}")
            service.directives.poll()
            await asyncio.to_thread(wait_for_tracing, service, on=False)
            await client.post(INFER, json=BODY)
            path.write_text(json.dumps({"tracing": {"otlpEndpoint": second.url}}))
            service.directives.poll()
            await asyncio.to_thread(wait_for_tracing, service, on=True)
            await client.post(INFER, json=BODY)
            await client.post(INFER, json=BODY)
        assert (len(first.roots()), len(second.roots())) == (1, 2)


@pytest.mark.slow
def test_while_it_is_off_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, modelyard_runtime.service, modelyard_runtime.app\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
