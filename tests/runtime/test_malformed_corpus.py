"""Hundreds of broken requests: each is answered in the one shape, and nothing is left behind."""

from __future__ import annotations

from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from testkit import runtime_models as models
from testkit.malformed import INFER, Malformed, corpus
from testkit.runtime_serving import running, serving

if TYPE_CHECKING:
    from testkit.runtime_serving import Running

DRAWN, LEAST = 1500, 300
GOOD = models.request("x", "FP32", [1, 4], [1, 0, 0, 0])


def problem_with(answer: httpx.Response) -> str | None:
    """Say what is wrong with the answer to a broken request."""
    if not 400 <= answer.status_code < 500:
        return f"status {answer.status_code}: {answer.text[:200]}"
    document = answer.json()
    if set(document) != {"error", "code", "request_id"} or not document["error"]:
        return f"not the one shape: {answer.text[:200]}"
    if document["request_id"] != answer.headers["x-request-id"]:
        return "another request's id"
    return "a long message" if len(document["error"]) > 1000 else None


@pytest.mark.slow
async def test_every_broken_request_is_refused(tmp_path: Path) -> None:
    requests = corpus(DRAWN)
    assert len(requests) >= LEAST
    wrong: dict[Malformed, str] = {}
    async with serving(models.linear_onnx(tmp_path / "m.onnx")) as (client, _):
        for request in requests:
            answer = await client.post(
                request.path, content=request.body, headers=raw(request.headers)
            )
            if (problem := problem_with(answer)) is not None:
                wrong[request] = problem
        assert (await client.post(INFER, json=GOOD)).status_code == 200
    assert wrong == {}


def raw(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]


@pytest.mark.slow
def test_memory_stays_flat(tmp_path: Path) -> None:
    # The client refuses to send some headers.
    requests = [
        request
        for request in corpus(DRAWN)
        if all(value.isascii() and value == value.strip() for _, value in request.headers)
    ]
    path = str(models.linear_onnx(tmp_path / "m.onnx"))
    with running(tmp_path, "serve", path, model_name="m") as runtime:
        runtime.wait_for("Ready")
        # The plainest client there is: most of the time would go into another one.
        connection = HTTPConnection(runtime.http.removeprefix("http://"))
        for _ in range(2):  # fills caches and the allocator's arenas
            send(connection, requests)
        before = resident_kib(runtime)
        for _ in range(8):
            send(connection, requests)
        assert resident_kib(runtime) - before < 4 * 1024
        assert httpx.post(f"{runtime.http}{INFER}", json=GOOD).status_code == 200
        assert runtime.process.poll() is None
        connection.close()


def send(connection: HTTPConnection, requests: list[Malformed]) -> None:
    for request in requests:
        connection.putrequest("POST", request.path)
        for name, value in (*request.headers, ("content-length", str(len(request.body)))):
            connection.putheader(name, value)
        connection.endheaders(request.body)
        answer = connection.getresponse()
        assert 400 <= answer.status < 500, request
        answer.read()


def resident_kib(runtime: Running) -> int:
    status = Path(f"/proc/{runtime.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
