"""The access log: all errors, and a share of the rest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from modelyard_runtime.directives import Directives
from modelyard_runtime.records.access_log import AccessLog
from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from pathlib import Path

INFER = "/v2/models/m/infer"
BODY = models.request("x", "FP32", [1, 4], [1, 2, 3, 4])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.linear_onnx(tmp_path / "model.onnx")


def with_ratio(ratio: float) -> Directives:
    return Directives.model_validate({"accessLog": {"samplingRatio": ratio}})


async def logged(model: Path, ratio: float, capfd: pytest.CaptureFixture[str]) -> list[Any]:
    """Ask once well and once badly, and read what has been logged of it."""
    directives = model.with_name("directives.json")
    directives.write_text(json.dumps({"accessLog": {"samplingRatio": ratio}}))
    async with serving(model, directives_file=directives) as (client, _):
        capfd.readouterr()
        await client.post(INFER, json=BODY, headers={"X-Request-Id": "good"})
        await client.post(INFER, json={}, headers={"X-Request-Id": "bad"})
    lines = capfd.readouterr().out.splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"event":"request"')]


async def test_a_line_says_what_became_of_a_request(
    model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good, bad = await logged(model, 1, capfd)
    assert (good["request_id"], good["level"], good["code"]) == ("good", "info", 200)
    assert set(good) == {
        *("event", "level", "time", "request_id", "trace_id", "protocol", "model", "version"),
        *("revision", "principal", "source", "code", "outcome", "rows", "cached", "duration_ms"),
    }
    assert (bad["level"], bad["code"], bad["outcome"]) == ("warning", 400, "malformed")


async def test_errors_are_logged_without_being_asked_for(
    model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert [line["request_id"] for line in await logged(model, 0, capfd)] == ["bad"]


def test_a_share_is_a_share() -> None:
    log = AccessLog()
    assert not any(log.wants(200) for _ in range(1000))
    log.apply(with_ratio(0.5))
    assert 350 < sum(log.wants(200) for _ in range(1000)) < 650
    assert all(log.wants(499) for _ in range(100))


def test_what_is_lost_is_told_by_the_next_line() -> None:
    log = AccessLog()
    log._on_drop()
    log._on_drop()

    class Ending:
        code = 200

        def document(self) -> dict[str, Any]:
            return {}

    ending: Any = Ending()
    assert log._line(ending)["lines_lost"] == 2
    assert "lines_lost" not in log._line(ending)
