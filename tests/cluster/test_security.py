"""Who is let in, and what is written down about it: keys, tokens, audit records and spans."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from testkit.cluster_api import is_ready, revision_of
from testkit.cluster_collector import attributes, start_collector
from testkit.cluster_lab import Bench, Served
from testkit.cluster_traffic import OK, ROW, Answer, Route

pytestmark = pytest.mark.cluster

NAME: Final = "guarded"
KEY: Final = "a-key-of-alice"
ISSUER: Final = "https://issuer.example.com"
AUDIENCE: Final = "fraud"
SIGNING: Final = ec.generate_private_key(ec.SECP256R1())
OTHER: Final = ec.generate_private_key(ec.SECP256R1())
JWT_AUTH: Final = {"type": "JWT", "issuer": ISSUER, "audiences": [AUDIENCE]}
REACHES_S: Final = 20.0
"""Until an edit is in the pod: the kubelet is told, and the runtime looks once a second."""
WRITTEN_S: Final = 10.0
"""Until a line is in the log: threads write it, and the kubelet reads it."""


def _jwks() -> str:
    key = jwt.algorithms.ECAlgorithm.to_jwk(SIGNING.public_key(), as_dict=True)
    return json.dumps({"keys": [{**key, "kid": "first", "use": "sig"}]})


def _token(key: Any = SIGNING, **claims: Any) -> str:
    body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "bob", "exp": time.time() + 600}
    return jwt.encode(body | claims, key, "ES256", headers={"kid": "first"})


@pytest.fixture(scope="module")
def model(bench: Bench) -> Served:
    """A model whose keys lie ready before anybody is asked for one, audited from the start."""
    secret = {"metadata": {"name": f"{NAME}-auth"}}
    keys = {"alice": KEY, "jwks.json": _jwks()}
    bench.lab.api.create("Secret", bench.namespace, {**secret, "stringData": keys})
    audit = {"mode": "Payload", "redact": ["x*"]}
    served = bench.serve(NAME, observability={"audit": audit})
    served.until_ready()
    served.until_answered()
    return served


@contextmanager
def _asking(model: Served, auth: Mapping[str, Any]) -> Iterator[None]:
    """Ask for credentials for a while; nothing of it makes a new pod."""
    before = {pod["metadata"]["uid"] for pod in model.pods()}
    model.edit(exposure={"auth": auth})
    _until(model.route.ask, 401)
    yield
    model.edit(exposure={"auth": None})
    _until(model.route.ask, OK)
    assert is_ready(model.until_ready())
    assert {pod["metadata"]["uid"] for pod in model.pods()} == before


def _until(ask: Callable[[], Answer], status: int) -> Answer:
    deadline = time.monotonic() + REACHES_S
    while (answer := ask()).status != status:
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    return answer


def _challenge(answer: Answer) -> str:
    """Return how to authenticate; proxies write the header's name in a way of their own."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return headers["www-authenticate"]


def _with(route: Route, **headers: str) -> Route:
    """Send headers, and a request id that no other request has."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(route, headers={"X-Request-Id": str(uuid.uuid4()), **named})


def _bearer(route: Route, credentials: str) -> Route:
    return _with(route, Authorization=f"Bearer {credentials}")


def _record(model: Served, route: Route) -> dict[str, Any]:
    """Return the audit record of a route's request, as the pod's log has it."""
    wanted = route.headers["X-Request-Id"]
    deadline = time.monotonic() + WRITTEN_S
    while True:
        lines = _log(model).splitlines()
        records: list[dict[str, Any]] = [
            json.loads(line) for line in lines if '"event":"prediction"' in line
        ]
        if found := [each for each in records if each["request_id"] == wanted]:
            assert len(found) == 1
            return found[0]
        assert time.monotonic() < deadline, f"no record of {wanted} among {len(records)}"
        time.sleep(0.2)


def _log(model: Served) -> str:
    (pod,) = model.pods()
    where = (f"--namespace={model.namespace}", "--container=runtime")
    return model.bench.lab.kubectl("logs", pod["metadata"]["name"], *where).stdout


def test_the_audit_names_whose_key_it_was(model: Served) -> None:
    stranger, wrong = _with(model.route), _with(model.route, X_API_Key="of-nobody")
    known = _with(model.route, X_API_Key=KEY)
    with _asking(model, {"type": "APIKey"}):
        refused = stranger.ask()
        assert (refused.status, _challenge(refused)) == (401, "Bearer")
        assert wrong.ask().status == 403
        assert known.ask().status == OK
    expected = [(stranger, "", 401, "unauthorized"), (wrong, "", 403, "forbidden")]
    for route, principal, code, outcome in [*expected, (known, "alice", 200, "ok")]:
        record = _record(model, route)
        assert (record["principal"], record["code"]) == (principal, code)
        assert record["outcome"] == outcome
    record = _record(model, known)
    assert (record["model"], record["version"]) == (NAME, "1")
    assert record["revision"] == revision_of(model.get(), "stable")
    (given,), (answered,) = record["inputs"], record["outputs"]
    assert (given["name"], given["redacted"], "data" in given) == ("x", True, False)
    assert (answered["name"], answered["data"]) == ("y", [sum(ROW)] * 2)
    assert KEY not in _log(model)


def test_only_tokens_of_the_issuer_open(model: Served) -> None:
    good = _bearer(model.route, _token())
    with _asking(model, JWT_AUTH):
        assert _until(good.ask, OK).status == OK
        assert model.route.ask(path=f"/v2/models/{NAME}").status == 401  # metadata too
        for refused, why in (
            (_token(exp=time.time() - 600), "expired"),
            (_token(aud="somebody-else"), "not meant for this service"),
            (_token(iss="https://other.example.com"), "another issuer"),
            (_token(OTHER), "signature"),
            (KEY, "no JSON Web Token"),
        ):
            answer = _bearer(model.route, refused).ask()
            assert (answer.status, answer.document["code"]) == (401, "unauthorized")
            assert why in answer.document["error"]
            assert 'error="invalid_token"' in _challenge(answer)
    record = _record(model, good)
    assert (record["principal"], record["outcome"]) == ("bob", "ok")
    assert _token().partition(".")[0] not in _log(model)


def test_spans_reach_a_collector_under_the_callers_trace(model: Served) -> None:
    collector = start_collector(model.bench, "collector")
    model.edit(observability={"tracing": {"otlpEndpoint": collector.url}})
    trace, parent = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    traced = _with(model.route, traceparent=f"00-{trace}-{parent}-01")

    def asked_and_recorded(spans: list[Any]) -> bool:
        assert traced.ask().status == OK  # the first ones come before the edit is in the pod
        return len(_of(spans, trace)) >= 5

    found = collector.until(asked_and_recorded)
    spans = [span for span, _ in _of(found, trace)]
    roots = {span.span_id: span for span in spans if span.parent_span_id.hex() == parent}
    assert {span.name for span in roots.values()} == {f"inference {NAME}"}
    stages = {span.name for span in spans if span.parent_span_id in roots}
    assert stages == {"decode", "queue", "forward", "encode"}
    revision = revision_of(model.get(), "stable")
    root = attributes(next(iter(roots.values())))
    assert (root["modelyard.revision"], root["http.response.status_code"]) == (revision, 200)
    assert found[0][1]["service.name"] == "modelyard-runtime"
    records = [json.loads(line) for line in _log(model).splitlines() if trace in line]
    assert {each["trace_id"] for each in records} == {trace}
    model.edit(observability={"tracing": None})


def _of(spans: list[Any], trace: str) -> list[Any]:
    return [(span, resource) for span, resource in spans if span.trace_id.hex() == trace]
