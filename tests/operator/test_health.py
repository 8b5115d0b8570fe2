import json
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import aiohttp
import pytest
import structlog

from modelyard_operator import log
from modelyard_operator.health import Health
from modelyard_operator.kinds import BY_NAME, CHILD_KINDS, MODEL_DEPLOYMENT, POD


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in found]


async def test_the_endpoints_answer() -> None:
    health, (http, metrics) = Health(), free_ports(2)
    async with health.serve(http, metrics), aiohttp.ClientSession() as session:

        async def get(port: int, path: str) -> tuple[int, str]:
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, await answer.text()

        assert await get(http, "/livez") == (200, "ok")
        assert await get(http, "/readyz") == (503, "not ok")
        health.ready = True
        assert await get(http, "/readyz") == (200, "ok")
        status, text = await get(metrics, "/metrics")
        assert status == 200
        assert "modelyard_operator_reconcile_total" in text


@pytest.fixture
def logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging_restored")
def test_logs_are_json_from_both_sides(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("INFO")
    structlog.get_logger("ours").info("applied", child="x")
    logging.getLogger("theirs").warning("watch %s", "closed")
    logging.getLogger("kopf.objects").info("noise")
    logging.getLogger("theirs").debug("noise")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["event"], one["level"]) for one in lines] == [
        ("applied", "info"),
        ("watch closed", "warning"),
    ]
    assert lines[0]["child"] == "x"


def test_kinds_know_their_group() -> None:
    assert POD.api_version == "v1"
    assert MODEL_DEPLOYMENT.api_version == "modelyard.dev/v1alpha1"
    assert CHILD_KINDS[-1] is BY_NAME["Ingress"], "routes after what they name"
