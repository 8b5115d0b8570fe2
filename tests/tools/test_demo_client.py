import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from demo.client import Client, Target, label_of
from demo.digits import Digits


@pytest.mark.parametrize(
    ("shape", "data", "label"), [([1, 3], [0.1, 2.5, -1.0], 1), ([1], [7], 7), ([1], [7.0], 7)]
)
def test_scores_and_labels_both_name_a_digit(
    shape: list[int], data: list[float], label: int
) -> None:
    assert label_of({"outputs": [{"shape": shape, "data": data}]}) == label


class _Model:
    """A served model that answers the brightest pixel's index; every third answer is a 503."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.hosts: set[str] = set()
        self.asked = 0

    async def describe(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"inputs": [{"name": "image", "datatype": "FP32"}]})

    async def infer(self, request: web.Request) -> web.Response:
        self.hosts.add(request.host)
        self.asked += 1
        if self.fails and self.asked % 3 == 0:
            return web.Response(status=503, text="no backend")
        [tensor] = json.loads(await request.text())["inputs"]
        assert (tensor["name"], tensor["shape"]) == ("image", [1, 64])
        answer: dict[str, Any] = {"outputs": [{"shape": [1, 64], "data": tensor["data"]}]}
        headers = {"X-Modelyard-Revision": "digits-aaaa", "X-Modelyard-Model-Version": "1"}
        return web.json_response(answer, headers=headers)


async def _ask_all(model: _Model, digits: Digits) -> Client:
    app = web.Application()
    app.router.add_get("/v2/models/digits", model.describe)
    app.router.add_post("/v2/models/digits/infer", model.infer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        target = Target(f"{host}:{port}", "digits.example.com", "digits")
        async with aiohttp.ClientSession(headers={"Host": target.host}) as session:
            client = Client(session, target, digits)
            await client.prepare(target)
            await client.ask_all(4)
        return client
    finally:
        await runner.cleanup()


@pytest.fixture
def digits() -> Digits:
    images = np.zeros((9, 64), np.float32)
    images[np.arange(9), np.arange(9)] = 16
    return Digits(images, np.arange(9))


async def test_a_client_asks_for_every_digit_once_through_the_route(digits: Digits) -> None:
    model = _Model(fails=False)
    client = await _ask_all(model, digits)
    assert model.hosts == {"digits.example.com"}
    assert len(client.seen) == 9
    assert all(sample.correct and not sample.failed for sample in client.seen)
    assert {sample.version for sample in client.seen} == {"1"}


async def test_a_client_counts_what_fails_and_goes_on(digits: Digits) -> None:
    client = await _ask_all(_Model(fails=True), digits)
    failed = [sample for sample in client.seen if sample.failed]
    assert (len(client.seen), len(failed)) == (9, 3)
    assert {(sample.status, sample.error) for sample in failed} == {(503, "no backend")}


async def test_a_server_that_hangs_up_is_a_failure_not_an_end(digits: Digits) -> None:
    async with aiohttp.ClientSession() as session:
        client = Client(session, Target("127.0.0.1:9", "digits.example.com", "digits"), digits)
        client._bodies = [b"{}"]
        await asyncio.wait_for(client.ask(0), 5)
    [sample] = client.seen
    assert sample.failed
    assert sample.status == 0
    assert sample.error


def test_digits_survive_the_file(digits: Digits, tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    digits.save(path)
    again = Digits.load(path)
    assert np.array_equal(again.images, digits.images)
    assert np.array_equal(again.labels, digits.labels)
