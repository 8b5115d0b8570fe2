"""What a spec hands to its pods, seen through the route: hooks, keys and limits."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from testkit.cluster_api import Manifest, condition, is_ready, revision_of, state_of
from testkit.cluster_lab import Bench, Served
from testkit.cluster_traffic import OK, ROW, Answer, Load, Route

pytestmark = pytest.mark.cluster

HOOKS: Final = "hooks"
KEY: Final = "a-key-of-alice"
REACHES_S: Final = 20.0
"""Until an edit is in every pod: the kubelet is told, and the runtime looks once a second."""


def _config_map(name: str, **data: str) -> Manifest:
    return {
        "metadata": {"name": name},
        "data": {key.replace("_", "."): text for key, text in data.items()},
    }


def _handler(factor: int) -> str:
    return f"def postprocess(outputs, ctx):\n    return {{'y': outputs['y'] * {factor}}}\n"


def _until(ask: Callable[[], Answer], status: int) -> Answer:
    deadline = time.monotonic() + REACHES_S
    while (answer := ask()).status != status:
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    return answer


def _worst(answers: Iterable[Answer]) -> Answer:
    return max(answers, key=lambda answer: answer.status)


@contextmanager
def _in_place(served: Served) -> Iterator[None]:
    """Hold that nothing in here makes a revision or a pod."""
    before = served.until(lambda seen: state_of(seen) == "Idle" and is_ready(seen))
    stable = revision_of(before, "stable")
    pods = _uids(served, stable)
    yield
    assert revision_of(served.until_ready(), "stable") == stable
    assert _uids(served, stable) == pods
    assert len(served.all("Deployment")) == 1


def _uids(served: Served, revision: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in served.pods(revision)}


@pytest.fixture(scope="module")
def model(bench: Bench) -> Served:
    """A model with a handler, through which version 1 answers ten times its own output."""
    handler = _config_map(HOOKS, handler_py=_handler(10))
    bench.lab.api.create("ConfigMap", bench.namespace, handler)
    ref = {"configMapName": HOOKS, "key": "handler.py"}
    served = bench.serve("hooked", runtime={"handlerRef": ref})
    served.until_ready()
    served.until_answered()
    return served


def test_a_handler_from_a_config_map_changes_answers(model: Served) -> None:
    assert model.route.version() == 10
    revision = revision_of(model.get(), "stable")
    files = model.api.need("ConfigMap", model.namespace, f"{revision}-files")
    assert (files["data"], files["immutable"]) == ({"handler.py": _handler(10)}, True)


def test_an_edit_of_the_handler_is_a_canary(model: Served) -> None:
    old = revision_of(model.get(), "stable")
    with Load(model.route) as load:
        model.api.patch(
            "ConfigMap", model.namespace, HOOKS, _config_map(HOOKS, handler_py=_handler(100))
        )
        model.until(lambda seen: revision_of(seen, "stable") not in {"", old} and is_ready(seen))
        load.until_answered_by(revision_of(model.get(), "stable"))
    assert load.failed == []
    assert model.route.version() == 100


def test_without_its_config_map_the_model_goes_on_and_says_so(model: Served) -> None:
    handler = model.api.need("ConfigMap", model.namespace, HOOKS)["data"]
    with _in_place(model):
        model.api.delete("ConfigMap", model.namespace, HOOKS)
        try:
            seen = model.until(lambda one: condition(one, "Ready")["reason"] == "ReferenceNotFound")
        finally:
            body = {"metadata": {"name": HOOKS}, "data": handler}
            model.api.create("ConfigMap", model.namespace, body)
        assert f"'{HOOKS}'" in condition(seen, "Ready")["message"]
        assert "create the ConfigMap" in seen["status"]["failure"]["hint"]
        assert condition(seen, "Available")["status"] == "True"
        assert model.route.version() == 100


def test_the_repository_is_closed_through_the_route(model: Served) -> None:
    for verb in ("load", "unload"):
        answer = model.route.ask(b"{}", path=f"/v2/repository/models/{model.name}/{verb}")
        assert answer.status == 403, answer
    assert model.route.version() == 100


def test_grpc_answers_under_the_service(model: Served) -> None:
    address = model.bench.lab.address(model.namespace, model.name, 8081)
    tensor = InferInput("x", [1, len(ROW)], "FP32")
    tensor.set_data_from_numpy(np.array([ROW], dtype=np.float32))
    with InferenceServerClient(address) as client:
        assert client.is_model_ready(model.name)
        answer = client.infer(model.name, [tensor])
    outputs = answer.as_numpy("y")
    assert outputs is not None
    assert outputs[0, 0] == sum(ROW) * 100


def test_a_rate_limit_reaches_running_pods_and_leaves_them(model: Served) -> None:
    with _in_place(model):
        model.edit(exposure={"rateLimit": {"requestsPerSecond": 1, "burst": 1}})
        limited = _until(model.route.ask, 429)
        assert int(limited.headers["Retry-After"]) >= 1
        model.edit(exposure={"rateLimit": None})
        # One in a second was answered before, too.
        _until(lambda: _worst(model.route.ask() for _ in range(20)), OK)


def test_keys_are_asked_for_on_every_way_in(model: Served) -> None:
    inside = Route(model.bench.lab.address(model.namespace, model.name, 80), "", model.name)
    secret = {"metadata": {"name": f"{model.name}-auth"}, "stringData": {"alice": KEY}}
    with _in_place(model):
        model.api.create("Secret", model.namespace, secret)
        model.edit(exposure={"auth": {"type": "APIKey"}})
        for route in (model.route, inside):
            answer = _until(route.ask, 401)
            assert answer.document["code"] == "unauthorized"
            assert replace(route, headers={"X-API-Key": "of nobody"}).ask().status == 403
            _until(replace(route, headers={"X-API-Key": KEY}).ask, OK)
            assert replace(route, headers={"Authorization": f"Bearer {KEY}"}).ask().status == OK
        model.edit(exposure={"auth": None})
        _until(model.route.ask, OK)


def test_a_missing_secret_lets_nobody_in(model: Served) -> None:
    model.edit(exposure={"auth": {"type": "APIKey", "secretName": "nowhere"}})
    said = model.until(
        lambda one: (
            condition(one, "Ready")["reason"] == "AuthKeysMissing" and state_of(one) == "Idle"
        )
    )
    assert "nowhere" in condition(said, "Ready")["message"]
    _until(model.route.ask, 401)
    _until(replace(model.route, headers={"X-API-Key": KEY}).ask, 403)
