import json
import logging
from collections.abc import Iterator

import aiohttp
import pytest
import structlog

from modelyard_operator import log, metrics
from modelyard_operator.health import Health
from modelyard_operator.kinds import BY_NAME, CHILD_KINDS, MODEL_DEPLOYMENT, POD
from testkit.ports import free_ports


async def test_the_endpoints_answer() -> None:
    health, (http, metrics_port) = Health(), free_ports(2)
    metrics.RECONCILES.labels("success").inc()
    async with health.serve(http, metrics_port), aiohttp.ClientSession() as session:

        async def get(port: int, path: str) -> tuple[int, str]:
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, await answer.text()

        assert await get(http, "/livez") == (200, "ok")
        assert await get(http, "/readyz") == (503, "not ok")
        health.ready = True
        assert await get(http, "/readyz") == (200, "ok")
        status, text = await get(metrics_port, "/metrics")
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
