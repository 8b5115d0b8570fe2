"""The scraper against a real HTTP server."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from modelyard_operator.errors import ScrapeError
from modelyard_operator.scrape import CONCURRENT, MAX_BYTES, Scraper


class Server:
    """Answers a few paths; counts who is inside."""

    def __init__(self) -> None:
        self.inside = 0
        self.most_inside = 0
        self.asked: list[str] = []
        self.port = 0
        self.closing = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        if request.path == "/live":
            said = {} if request.host == "nobody" else {"X-Modelyard-Revision": request.host}
            return web.Response(headers=said)
        if request.path == "/moved":
            raise web.HTTPFound("/metrics")
        if request.path == "/large":
            return web.Response(body=b"x" * (MAX_BYTES + 1))
        if request.path == "/never":
            await self.closing.wait()
        if request.path != "/metrics":
            raise web.HTTPNotFound
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.inside -= 1
        return web.Response(text="a_total 1\n")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    server.closing.set()
    await runner.cleanup()


@pytest.fixture
async def scraper(server: Server) -> AsyncIterator[Scraper]:
    timeout = aiohttp.ClientTimeout(total=0.2)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Scraper(session, port=server.port)


async def test_pods_that_answer_are_read_and_the_others_left_out(scraper: Scraper) -> None:
    addresses = {"here": "127.0.0.1", "nowhere": "127.0.0.2"}
    assert await scraper.read_pods(addresses, "/metrics") == {"here": "a_total 1\n"}
    assert await scraper.read_pods(addresses, "/other") == {}
    assert await scraper.read_pods({}, "/metrics") == {}


async def test_few_are_asked_at_once(scraper: Scraper, server: Server) -> None:
    addresses = {str(number): "127.0.0.1" for number in range(4 * CONCURRENT)}
    assert len(await scraper.read_pods(addresses, "/metrics")) == 4 * CONCURRENT
    assert server.most_inside <= CONCURRENT


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/other", "expected status 200, got 404"),
        ("/moved", "expected status 200, got 302"),
        ("/large", "expected at most"),
        ("/never", "no answer: TimeoutError"),
    ],
)
async def test_anything_but_a_short_answer_in_time_is_refused(
    scraper: Scraper, server: Server, path: str, problem: str
) -> None:
    with pytest.raises(ScrapeError, match=problem):
        await scraper.get(f"http://127.0.0.1:{server.port}{path}")


async def test_the_connections_live_as_long_as_the_context() -> None:
    async with Scraper.connect() as scraper:
        assert not scraper.session.closed
        with pytest.raises(ScrapeError, match="no answer"):
            await scraper.get("http://127.0.0.1:9/metrics")
    assert scraper.session.closed


async def test_an_address_of_ip_version_6_is_put_in_brackets(scraper: Scraper) -> None:
    assert await scraper.read_pods({"six": "::1"}, "/metrics") == {}


async def test_a_proxy_is_asked_for_a_host(scraper: Scraper, server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/live"
    assert await scraper.answered_by(url, "fraud.example.com") == "fraud.example.com"
    assert await scraper.answered_by(url, "nobody") == ""


async def test_a_proxy_that_does_not_answer_names_nobody(scraper: Scraper, server: Server) -> None:
    assert await scraper.answered_by("http://127.0.0.1:1/live", "a.x") is None
    assert await scraper.answered_by(f"https://127.0.0.1:{server.port}/live", "a.x") is None
