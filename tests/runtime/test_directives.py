"""All keys of the contract, and the parts of the process that follow them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from modelyard_runtime.directives import Directives, DirectivesFile
from modelyard_runtime.metrics import RuntimeMetrics
from modelyard_runtime.settings import RuntimeSettings

if TYPE_CHECKING:
    from pathlib import Path

FULL: dict[str, Any] = {
    "pathPrefix": "/fraud",
    "maxBodyBytes": 1000,
    "auth": {
        "type": "JWT",
        "issuer": "https://issuer",
        "audiences": ["fraud"],
        "jwksURI": "https://issuer/keys",
        "later": 1,
    },
    "rateLimit": {"requestsPerSecond": 2.5, "burst": 4, "concurrency": 3},
    "audit": {"mode": "Payload", "sink": "stdout", "samplingRatio": "0.25", "redact": ["card*"]},
    "accessLog": {"samplingRatio": 0.5},
    "tracing": {"otlpEndpoint": "http://otel:4318", "samplingRatio": 0.05},
    "shadow": {"url": "http://fraud-2:8080", "percent": 10, "token": "secret-1"},
    "shadowToken": "secret-2",
    "stickiness": {"cookie": "modelyard-revision-0a", "value": "never"},
    "verification": "Report",
    "later": {},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "directives.json"


@pytest.fixture
def file(path: Path) -> DirectivesFile:
    return DirectivesFile(path, RuntimeMetrics(RuntimeSettings(model_name="m")))


def test_every_key_of_the_contract_is_read(path: Path, file: DirectivesFile) -> None:
    path.write_text(json.dumps(FULL))
    file.poll()
    read = file.current.model_dump(mode="json", by_alias=True)
    wanted = json.loads(json.dumps(FULL))
    del wanted["later"], wanted["auth"]["later"]
    wanted["audit"]["samplingRatio"] = 0.25
    assert read == wanted


def test_what_is_left_out_is_off() -> None:
    read = Directives.model_validate_json("{}")
    assert (read.auth.type, read.audit.mode) == ("None", "None")
    assert (read.rate_limit, read.tracing, read.shadow) == (None, None, None)
    assert (read.shadow_token, read.access_log.sampling_ratio) == ("", 0)
    assert read.verification == "Gate"
    nulls = '{"rateLimit": null, "tracing": null, "shadow": null}'
    assert Directives.model_validate_json(nulls) == read


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"auth": {"type": "Basic"}}, "auth.type"),
        ({"auth": {"type": "JWT"}}, "auth"),
        ({"auth": {"type": "JWT", "issuer": "i", "jwksURI": "file:///etc/passwd"}}, "auth.jwksURI"),
        ({"auth": None}, "auth"),
        ({"rateLimit": {}}, "rateLimit.requestsPerSecond"),
        ({"rateLimit": {"requestsPerSecond": 0}}, "rateLimit.requestsPerSecond"),
        ({"rateLimit": {"requestsPerSecond": 1, "burst": 0}}, "rateLimit.burst"),
        ({"audit": {"mode": "All"}}, "audit.mode"),
        ({"audit": {"sink": "kafka"}}, "audit.sink"),
        ({"accessLog": {"samplingRatio": 2}}, "accessLog.samplingRatio"),
        ({"tracing": {"otlpEndpoint": "otel:4318"}}, "tracing.otlpEndpoint"),
        ({"shadow": {"url": "http://x", "percent": 101, "token": "s3cret"}}, "shadow.percent"),
        ({"shadowToken": {"s3cret": 1}}, "shadowToken"),
        ({"verification": "Maybe"}, "verification"),
    ],
)
def test_one_bad_key_keeps_the_last_good_directives(
    path: Path,
    file: DirectivesFile,
    bad: dict[str, Any],
    field: str,
) -> None:
    path.write_text(json.dumps(FULL))
    file.poll()
    good, digest = file.current, file.hash
    path.write_text(json.dumps(FULL | {"maxBodyBytes": 7} | bad))
    with capture_logs() as logs:
        file.poll()
    assert (file.current, file.hash) == (good, digest)
    (log,) = logs
    assert log["problems"].startswith(f"{field}: ")
    assert "s3cret" not in str(log)


def test_secrets_are_not_shown() -> None:
    assert "secret-" not in repr(Directives.model_validate(FULL))


def test_nobody_can_be_let_in_before_the_first_good_file(path: Path, file: DirectivesFile) -> None:
    assert not file.applied
    path.write_text("{")
    file.poll()
    assert not file.applied
    path.write_text("{}")
    file.poll()
    assert file.applied
    path.write_text("{")
    file.poll()
    assert file.applied
    assert DirectivesFile(None, RuntimeMetrics(RuntimeSettings(model_name="m"))).applied


def test_followers_are_told_now_and_after_each_change(path: Path, file: DirectivesFile) -> None:
    told: list[int] = []
    file.follow(lambda directives: told.append(directives.max_body_bytes))
    for content in ('{"maxBodyBytes": 1}', "{", '{"maxBodyBytes": 2}', '{"maxBodyBytes": 2}'):
        path.write_text(content)
        file.poll()
    assert told == [32 * 2**20, 1, 2]
