"""Requests over real connections: whole, in pieces, one behind the other, and abandoned."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from modelyard_runtime.api.lane import Lane
from modelyard_runtime.api.routes import DataRoutes
from modelyard_runtime.app import create_app
from modelyard_runtime.http_protocol import HttpProtocol
from modelyard_runtime.web_server import WebServer
from testkit.runtime_models import WEIGHTS, linear_onnx
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from modelyard_runtime.service import Service

INFER = "/v2/models/m/infer"


class Connection:
    """A client that writes bytes and reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request, and read one answer."""
        self.writer.write(request)
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, body

    async def closed(self) -> bool:
        async with asyncio.timeout(10):
            return await self.reader.read() == b""


@asynccontextmanager
async def connected(service: Service, **config: Any) -> AsyncIterator[Connection]:
    routes = DataRoutes(service)
    settings = service.settings.model_copy(update={"http_host": "127.0.0.1", "http_port": 0})
    server = WebServer(create_app(service, routes), settings, None, Lane(routes, service))
    for name, value in config.items():
        setattr(server.config, name, value)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    await server.on_tick(0)  # writes the date
    try:
        address = server.servers[0].sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        yield Connection(reader, writer)
        writer.close()
    finally:
        await server.shutdown()


def request(
    body: bytes | None = None, *, path: str = INFER, version: str = "1.1", **headers: str
) -> bytes:
    content = tensor(1.0) if body is None else body
    lines = [f"POST {path} HTTP/{version}", "host: x", f"content-length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def health(**headers: str) -> bytes:
    lines = ["GET /v2/health/ready HTTP/1.1", "host: x"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def tensor(value: float, rows: int = 1) -> bytes:
    data = [value] * (4 * rows)
    return json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": data}]}
    ).encode()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return linear_onnx(tmp_path / "model.onnx")


@asynccontextmanager
async def talking(
    model: Path, *, config: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[Connection, Service]]:
    async with (
        serving(model, **settings) as (_, service),
        connected(service, **(config or {})) as connection,
    ):
        yield connection, service


def value_of(body: bytes) -> list[float]:
    data: list[float] = json.loads(body)["outputs"][0]["data"]
    return data


def expected(value: float) -> Any:
    return pytest.approx((WEIGHTS * value).sum(axis=0).tolist())


def codes(service: Service) -> dict[str, float]:
    """How many requests ended with each status."""
    families = service.metrics.registry.collect()
    samples = [s for f in families for s in f.samples if s.name == "modelyard_requests_total"]
    return {sample.labels["code"]: sample.value for sample in samples}


async def test_whole_requests_are_answered_on_one_connection(model: Path) -> None:
    async with talking(model, revision="r-1", model_version="7") as (connection, service):
        for number in range(3):
            status, headers, body = await connection.ask(
                request(tensor(float(number)), x_request_id=f"id-{number}")
            )
            assert (status, value_of(body)) == (200, expected(number))
            assert headers["content-type"] == "application/json"
            assert headers["x-request-id"] == f"id-{number}"
            assert headers["x-modelyard-revision"] == "r-1"
            assert headers["x-modelyard-model-version"] == "7"
            assert "date" in headers
            assert "connection" not in headers
        assert codes(service) == {"200": 3}


async def test_a_whole_request_needs_no_asgi(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking(model) as (connection, _):
        monkeypatch.setattr("modelyard_runtime.http_protocol.HttpProtocol._begin_asgi", None)
        status, _, _ = await connection.ask(request())
        assert status == 200


@pytest.mark.parametrize("cut", [10, 60, 100, 160])
async def test_a_request_in_pieces_is_answered_like_a_whole_one(
    model: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: asyncio.Queue[bytes] = asyncio.Queue()
    take = HttpProtocol.data_received

    def noting(protocol: HttpProtocol, data: bytes) -> None:
        take(protocol, data)
        taken.put_nowait(data)

    monkeypatch.setattr(HttpProtocol, "data_received", noting)
    text = request(tensor(2.0), x_request_id="in-pieces")
    async with talking(model) as (connection, service):
        for piece in (text[:cut], text[cut:-7], text[-7:]):
            connection.writer.write(piece)
            assert await taken.get() == piece  # else the kernel may join it with the next one
        status, headers, body = await connection.answer()
        assert (status, value_of(body)) == (200, expected(2))
        assert headers["x-request-id"] == "in-pieces"
        status, _, body = await connection.ask(request(tensor(3.0)))
        assert (status, value_of(body)) == (200, expected(3))
        assert codes(service) == {"200": 2}


async def test_pipelined_requests_are_answered_in_their_order(model: Path) -> None:
    async with talking(model) as (connection, service):
        connection.writer.write(
            b"".join(request(tensor(float(n)), x_request_id=f"{n}") for n in range(4))
            + b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
            + request(tensor(4.0))
        )
        for number in range(4):
            status, headers, body = await connection.answer()
            assert (status, headers["x-request-id"]) == (200, f"{number}")
            assert value_of(body) == expected(number)
        assert (await connection.answer())[0] == 200  # the health check
        assert value_of((await connection.answer())[2]) == expected(4)
        assert codes(service) == {"200": 5}


async def test_errors_have_the_common_shape(model: Path) -> None:
    async with talking(model) as (connection, _):
        for text, status, code in (
            (request(b"{"), 400, "malformed"),
            (request(path="/v2/models/other/infer"), 404, "model_not_found"),
            (request(path="/predict/other"), 404, "model_not_found"),
            (request(content_encoding="br"), 415, "unsupported_media"),
        ):
            got, headers, body = await connection.ask(text)
            document = json.loads(body)
            assert (got, document["code"]) == (status, code)
            assert document["request_id"] == headers["x-request-id"]


async def test_directives_count_from_the_next_request_on(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "directives.json"
    path.write_text(json.dumps({"pathPrefix": "/a", "maxBodyBytes": 200}))
    async with talking(model, directives_file=path) as (connection, service):
        assert (await connection.ask(request(path=f"/a{INFER}")))[0] == 200
        path.write_text(json.dumps({"pathPrefix": "/b", "maxBodyBytes": 200}))
        service.directives.poll()
        assert (await connection.ask(request(path=f"/a{INFER}")))[0] == 404
        assert (await connection.ask(request(path=f"/b{INFER}")))[0] == 200
        status, _, body = await connection.ask(request(tensor(1.0, rows=8), path=f"/b{INFER}"))
        assert (status, json.loads(body)["code"]) == (413, "too_large")


async def test_clients_get_the_cookie_that_leads_back_once(model: Path, tmp_path: Path) -> None:
    """The same on the short way and through ASGI, which a GET takes."""
    path = tmp_path / "directives.json"
    wanted = {"cookie": "modelyard-revision-0a", "value": "always"}
    path.write_text(json.dumps({"pathPrefix": "/a", "stickiness": wanted}))
    given = "modelyard-revision-0a=always; Path=/a; HttpOnly; SameSite=Lax"
    async with talking(model, directives_file=path) as (connection, service):
        for cookie, expected_cookie in (
            ("other=1", given),
            ("modelyard-revision-0b=never; other=1", given),
            ("other=1; modelyard-revision-0a=never", None),
        ):
            for ask in (request(path=f"/a{INFER}", cookie=cookie), health(cookie=cookie)):
                status, headers, _ = await connection.ask(ask)
                assert (status, headers.get("set-cookie")) == (200, expected_cookie)
        status, headers, _ = await connection.ask(request(b"{}", path=f"/a{INFER}"))
        assert status == 400
        assert "set-cookie" not in headers, "a failure holds nobody"
        path.write_text(json.dumps({"stickiness": wanted}))
        service.directives.poll()
        _, headers, _ = await connection.ask(request())
        assert headers["set-cookie"] == given.replace("/a", "/")
        path.write_text("{}")
        service.directives.poll()
        assert "set-cookie" not in (await connection.ask(request()))[1]


async def test_packed_bodies_both_ways(model: Path) -> None:
    async with talking(model) as (connection, _):
        text = request(gzip.compress(tensor(2.0)), content_encoding="gzip", accept_encoding="gzip")
        status, headers, body = await connection.ask(text)
        assert (status, headers["content-encoding"]) == (200, "gzip")
        assert value_of(gzip.decompress(body)) == expected(2)


async def test_a_bug_is_answered_without_its_words(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(model) as (connection, service):

        def broken(*_: object) -> None:
            raise RuntimeError("secret")

        monkeypatch.setattr("modelyard_runtime.api.inference.decode_request", broken)
        status, headers, body = await connection.ask(request())
        assert status == 500
        assert json.loads(body) == {
            "error": "an internal error occurred",
            "code": "internal",
            "request_id": headers["x-request-id"],
        }
        assert codes(service) == {"500": 1}
        monkeypatch.undo()
        assert (await connection.ask(request()))[0] == 200


async def test_who_hangs_up_leaves_the_queue(model: Path) -> None:
    async with talking(model, max_batch_size=8, max_delay_ms=60_000) as (connection, service):
        (served,) = service.repository.served
        connection.writer.write(request())
        async with asyncio.timeout(10):
            while not served.batcher.queued:  # noqa: ASYNC110 - another process of this loop
                await asyncio.sleep(0.001)
            connection.writer.close()
            while served.batcher.pending or service.admission.inflight:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.001)
        assert codes(service) == {"499": 1}


async def test_the_last_answer_of_a_drain_closes_the_connection(model: Path) -> None:
    async with talking(model) as (connection, service):
        service.drain()
        status, headers, _ = await connection.ask(request())
        assert (status, headers["connection"]) == (200, "close")
        assert await connection.closed()


async def test_a_caller_who_wants_it_closed_gets_it_closed(model: Path) -> None:
    async with talking(model) as (connection, _):
        status, headers, _ = await connection.ask(request(connection="close"))
        assert (status, headers["connection"]) == (200, "close")
        assert await connection.closed()


async def test_http_1_0_closes_behind_the_answer(model: Path) -> None:
    async with talking(model) as (connection, _):
        status, _, _ = await connection.ask(request(version="1.0"))
        assert status == 200
        assert await connection.closed()


async def test_a_caller_who_asks_before_sending_is_told_to_go_on(model: Path) -> None:
    head, _, body = request(expect="100-continue").partition(b"\r\n\r\n")
    async with talking(model) as (connection, _):
        connection.writer.write(head + b"\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await connection.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        assert (await connection.ask(body))[0] == 200


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(model: Path) -> None:
    config = {"timeout_keep_alive": 0.2}
    settings = {"max_batch_size": 2, "max_delay_ms": 500}
    async with talking(model, config=config, **settings) as (connection, _):
        assert (await connection.ask(request()))[0] == 200  # longer than the time-out
        assert (await connection.ask(request()))[0] == 200
        assert await connection.closed()
