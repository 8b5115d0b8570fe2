"""Key sets from an issuer's endpoint: fetched once, kept while it is down, and not too often."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from modelyard_runtime.auth.key_sets import RemoteKeys
from testkit.runtime_tokens import JWKS, OTHER_KEY, bearer, jwk, token, with_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Issuer:
    def __init__(self) -> None:
        self.document: Any = JWKS
        self.status = 200
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()


@contextmanager
def issuing() -> Iterator[tuple[Issuer, str]]:
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            issuer.gate.wait(5)
            body = json.dumps(issuer.document).encode()
            self.send_response(issuer.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield issuer, f"http://127.0.0.1:{server.server_address[1]}/keys"
    finally:
        issuer.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()


async def test_keys_are_fetched_once_for_all_who_wait(tmp_path: Path) -> None:
    with issuing() as (issuer, uri):
        gate = with_tokens(tmp_path, {}, jwksURI=uri)
        issuer.gate.clear()
        waiting = [asyncio.create_task(gate.principal(bearer(token(jti=str(i))))) for i in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # the first to ask leaves
        issuer.gate.set()  # the loop was free all the time
        assert await asyncio.gather(*waiting[1:]) == ["alice"] * 4
        assert issuer.asked == 1
        gate.close()


async def test_the_last_keys_hold_while_the_issuer_is_down() -> None:
    now = 0.0
    with issuing() as (issuer, uri):
        keys = RemoteKeys(uri, lambda: now)
        assert await keys.find("rsa", "RS256") is not None
        issuer.status = 500
        now = 301
        assert await keys.find("rsa", "RS256") is not None  # old, but there; asked behind our back
        task = keys._fetching
        assert task is not None
        await task
        assert (issuer.asked, await keys.find("rsa", "RS256") is None) == (2, False)
        now += 6
        issuer.status, issuer.document = 200, {"keys": [jwk(OTHER_KEY, "RS256", kid="new")]}
        assert await keys.find("new", "RS256") is not None
        assert await keys.find("rsa", "RS256") is None
        assert issuer.asked == 3


async def test_invented_key_ids_do_not_reach_the_issuer() -> None:
    now = 0.0
    with issuing() as (issuer, uri):
        keys = RemoteKeys(uri, lambda: now)
        for i in range(20):
            assert await keys.find(f"invented-{i}", "RS256") is None
        assert issuer.asked == 1
        now = 31
        for i in range(20):
            assert await keys.find(f"invented-{i}", "RS256") is None
        assert issuer.asked == 2


async def test_an_issuer_that_answers_nonsense_lets_nobody_in() -> None:
    with issuing() as (issuer, uri):
        issuer.document = {"keys": "x"}
        keys = RemoteKeys(uri)
        with capture_logs() as logs:
            assert await keys.find("rsa", "RS256") is None
        assert logs[0]["log_level"] == "warning"
        keys.close()
