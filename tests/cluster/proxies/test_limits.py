"""What every proxy must keep in, keep out and leave alone: one guarded model behind each."""

import json
import os
from dataclasses import replace
from typing import Final

import pytest

from testkit.cluster_api import condition
from testkit.cluster_lab import Lab, Served
from testkit.cluster_proxies import TIMEOUT, WITH_GENERIC, Profile, Stream
from testkit.cluster_traffic import OK, infer_body
from testkit.proofs import proves

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

CHAOS: Final = os.environ.get("MODELYARD_CHAOS") == "1"
LIMIT_BYTES: Final = 4096
SILENCE_S: Final = 5
"""What the proxy accepts, and the model's deadline of an answer or of its first part."""
STREAM_S: Final = 90 if CHAOS else 20
"""Longer than proxies let an answer take unless they are told otherwise: 15 or 60 seconds."""
ALICE: Final = {"X-API-Key": "a-key-of-alice"}
BOB: Final = {"X-API-Key": "a-key-of-bob"}
BURST: Final = 20
ENOUGH: Final = 200
"""Requests of one caller, far more than it may send however slow they are."""
EXPOSURE: Final = {
    "timeoutSeconds": SILENCE_S,
    "maxBodyBytes": LIMIT_BYTES,
    "auth": {"type": "APIKey"},
    "rateLimit": {"requestsPerSecond": 1, "burst": BURST},
    "strict": False,
}
RUNTIME: Final = {
    "timeouts": {"requestSeconds": SILENCE_S, "drainSeconds": 10},
    "concurrency": {"threads": 1},
}
UNSUPPORTED: Final = "FeaturesUnsupported"


@proves(TIMEOUT, "exposure.maxBodyBytes", "exposure.auth", "exposure.rateLimit")
@pytest.mark.parametrize("profile", WITH_GENERIC, ids=str)
def test_a_guarded_model_is_as_strict_behind_every_proxy(lab: Lab, profile: Profile) -> None:
    with profile.bench(lab, "limits") as bench:
        keys = {"alice": ALICE["X-API-Key"], "bob": BOB["X-API-Key"]}
        secret = {"metadata": {"name": "guarded-auth"}, "stringData": keys}
        lab.api.create("Secret", bench.namespace, secret)
        anyone = profile.serve(bench, "guarded", exposure=EXPOSURE, runtime=RUNTIME)
        served = replace(anyone, route=replace(anyone.route, headers=ALICE))
        served.until_answered()
        _keeps_strangers_out(anyone)
        _refuses_what_is_too_large(served)
        _limits_each_caller(served)
        _answers_in_time_and_streams_for_long(served)
        if TIMEOUT in profile.lacks:
            _says_unsupported(served, TIMEOUT)
        else:
            _cuts_what_falls_silent(served)


def _keeps_strangers_out(anyone: Served) -> None:
    unknown = anyone.route.ask()
    assert unknown.status == 401, unknown
    assert unknown.headers["WWW-Authenticate"] == "Bearer"
    assert unknown.headers["Content-Type"] == "application/json"
    assert unknown.document["code"] == "unauthorized"
    assert unknown.document["request_id"] == unknown.headers["X-Request-Id"]
    assert anyone.route.ask(path="/v2/health/ready").status == OK
    assert replace(anyone.route, headers={"X-API-Key": "of nobody"}).ask().status == 403


def _refuses_what_is_too_large(served: Served) -> None:
    """A proxy that reads the whole request first must not gather the answer as well."""
    rows = LIMIT_BYTES // len(infer_body())
    assert served.route.ask(infer_body(rows=rows)).status == OK
    assert served.route.ask(infer_body(rows=rows * 10)).status == 413
    with Stream(served.route, parts=5, pause_s=0.5) as stream:
        stream.until_ended()
    assert (stream.status, len(stream.moments), stream.error) == (OK, 5, "")
    assert stream.lasted_s > 1, "the events came at once, and not one by one"


def _limits_each_caller(served: Served) -> None:
    of_bob = replace(served.route, headers=BOB)
    refused = next(one for one in (of_bob.ask() for _ in range(ENOUGH)) if one.status != OK)
    assert refused.status == 429, refused
    assert int(refused.headers["Retry-After"]) >= 1
    assert served.route.ask().status == OK


def _says_unsupported(served: Served, name: str) -> None:
    """Wait until status says that nobody does anything about a field."""
    said = served.until(lambda one: name in condition(one, UNSUPPORTED)["message"])
    assert condition(said, UNSUPPORTED)["status"] == "True"


def _answers_in_time_and_streams_for_long(served: Served) -> None:
    slow = json.loads(infer_body()) | {"parameters": {"sleep_s": SILENCE_S * 2}}
    assert served.route.ask(json.dumps(slow).encode()).status == 504
    with Stream(served.route, parts=STREAM_S + 1, pause_s=1) as steady:
        steady.until_ended()
    assert (len(steady.moments), steady.error) == (STREAM_S + 1, ""), str(steady)
    assert steady.lasted_s > STREAM_S - 1


def _cuts_what_falls_silent(served: Served) -> None:
    with Stream(served.route, parts=3, pause_s=SILENCE_S * 2) as silent:
        silent.until_ended()
    assert (silent.status, len(silent.moments)) == (OK, 1), silent
