"""A corpus of bad requests: always a 4xx in one shape, and the process lives on."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard_runtime.engine.protocol import TensorSpec
from modelyard_runtime.errors import InvalidInputError
from modelyard_runtime.tensors import decode_tensor
from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

INFER = "/v2/models/m/infer"
GOOD = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
DEEP = "[" * 500 + "1" + "]" * 500


def packed(text: bytes | None = None) -> bytes:
    """Pack a body without the time, so that a test's name is the same in every process."""
    return gzip.compress(body() if text is None else text, mtime=0)


def body(**changes: Any) -> bytes:
    tensor = {k: v for k, v in {**GOOD, **changes}.items() if v is not ...}
    return json.dumps({"inputs": [tensor]}).encode()


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "malformed"),
    "not json": (b"{", "malformed"),
    "nan literal": (body().replace(b"4]", b"NaN]"), "malformed"),
    "not utf-8": (b'{"inputs": "\xff"}', "malformed"),
    "array": (b"[]", "malformed"),
    "null": (b"null", "malformed"),
    "too deep": (b"[" * 100_000, "malformed"),
    "no inputs": (b"{}", "malformed"),
    "inputs an object": (b'{"inputs": {}}', "malformed"),
    "input a string": (b'{"inputs": ["x"]}', "malformed"),
    "input without a name": (body(name=...), "malformed"),
    "name a number": (body(name=1), "malformed"),
    "id a number": (json.dumps({"id": 7, "inputs": [GOOD]}).encode(), "malformed"),
    "parameters a list": (body(parameters=[1]), "malformed"),
    "outputs a string": (json.dumps({"inputs": [GOOD], "outputs": "y"}).encode(), "malformed"),
    "no input at all": (b'{"inputs": []}', "invalid_input"),
    "unknown input": (body(name="z"), "invalid_input"),
    "duplicate input": (json.dumps({"inputs": [GOOD, GOOD]}).encode(), "invalid_input"),
    "unknown output": (
        json.dumps({"inputs": [GOOD], "outputs": [{"name": "q"}]}).encode(),
        "invalid_input",
    ),
    "duplicate output": (
        json.dumps({"inputs": [GOOD], "outputs": [{"name": "y"}] * 2}).encode(),
        "invalid_input",
    ),
    "no datatype": (body(datatype=...), "invalid_input"),
    "unknown datatype": (body(datatype="FP31"), "invalid_input"),
    "datatype a list": (body(datatype=["FP32"]), "invalid_input"),
    "wrong datatype": (body(datatype="FP64"), "invalid_input"),
    "no shape": (body(shape=...), "invalid_input"),
    "shape a number": (body(shape=4), "invalid_input"),
    "shape of strings": (body(shape=["1", "4"]), "invalid_input"),
    "shape of floats": (body(shape=[1.0, 4.0]), "invalid_input"),
    "shape of booleans": (body(shape=[True, 4]), "invalid_input"),
    "negative size": (body(shape=[-1, 4]), "invalid_input"),
    "two negative sizes": (body(shape=[-1, -4]), "invalid_input"),
    "huge size": (body(shape=[99_999_999_999, 4]), "invalid_input"),
    "overflowing size": (body(shape=[2**63, 4]), "invalid_input"),
    "overflowing product": (body(shape=[2**62, 4]), "invalid_input"),
    "product that wraps to 4": (body(shape=[2**62 + 1, 4]), "invalid_input"),
    "many dimensions": (body(shape=[1] * 10_000), "invalid_input"),
    "wrong rank": (body(shape=[4]), "invalid_input"),
    "wrong inner size": (body(shape=[1, 5], data=[1] * 5), "invalid_input"),
    "no rows": (body(shape=[0, 4], data=[]), "invalid_input"),
    "no data": (body(data=...), "invalid_input"),
    "data a string": (body(data="1234"), "invalid_input"),
    "data too short": (body(data=[1, 2, 3]), "invalid_input"),
    "data too long": (body(data=[1, 2, 3, 4, 5]), "invalid_input"),
    "data of strings": (body(data=["1", "2", "3", "4"]), "invalid_input"),
    "a string among numbers": (body(data=[1, 2, 3, "4"]), "invalid_input"),
    "a null among numbers": (body(data=[1, 2, 3, None]), "invalid_input"),
    "a boolean among numbers": (body(data=[1, 2, 3, True]), "invalid_input"),
    "an object among numbers": (body(data=[1, 2, 3, {}]), "invalid_input"),
    "a list among numbers": (body(data=[1, 2, 3, [4]]), "invalid_input"),
    "ragged": (body(shape=[2, 4], data=[[1, 2, 3, 4], [1, 2, 3]]), "invalid_input"),
    "nested in another shape": (body(data=[[1, 2], [3, 4]]), "invalid_input"),
    "nested too deep": (body().replace(b"[1, 2, 3, 4]", DEEP.encode()), "invalid_input"),
    "beyond float32": (body(data=[1e39, 0, 0, 0]), "invalid_input"),
    "beyond float64": (body().replace(b"[1, 2", b"[1e999, 2"), "malformed"),
    "binary size of nothing": (body(parameters={"binary_data_size": 16}), "malformed"),
    "shared memory": (body(parameters={"shared_memory_region": "r"}), "unsupported_media"),
    "binary output": (
        json.dumps({"inputs": [GOOD], "parameters": {"binary_data_output": "yes"}}).encode(),
        "invalid_input",
    ),
}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(models.linear_onnx(tmp_path / "m.onnx")) as (client, _):
        yield client


def check(answer: httpx.Response) -> str:
    assert 400 <= answer.status_code < 500, answer.text
    document = answer.json()
    assert set(document) == {"error", "code", "request_id"}
    assert document["error"]
    assert len(document["error"]) < 1000
    assert document["request_id"] == answer.headers["x-request-id"]
    code: str = document["code"]
    return code


async def test_the_corpus(client: httpx.AsyncClient) -> None:
    wrong = {}
    for name, (content, code) in BAD.items():
        got = check(await client.post(INFER, content=content))
        if got != code:
            wrong[name] = got
    assert wrong == {}
    assert (await client.post(INFER, content=body())).status_code == 200


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT8", [128]),
        ("INT8", [1.0]),
        ("INT64", [2**63]),
        ("INT64", [True]),
        ("UINT8", [-1]),
        ("UINT8", [256]),
        ("UINT64", [2**64]),
        ("UINT64", [-1]),
        ("BOOL", [1]),
        ("BOOL", ["true"]),
        ("FP16", [65520.0]),
        ("FP32", [None]),
        ("BYTES", [1]),
        ("BYTES", [None]),
        ("BYTES", [["a"]]),
    ],
)
async def test_values_outside_their_datatype(
    tmp_path: Path, datatype: str, data: list[Any]
) -> None:
    model = models.identity_onnx(tmp_path / "t.onnx", datatype, ["batch"])
    async with serving(model) as (client, _):
        answer = await client.post(INFER, json=models.request("x", datatype, [1], data))
        assert check(answer) == "invalid_input"


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({"content-encoding": "br"}, body(), 415, "unsupported_media"),
        ({"content-encoding": "gzip, gzip"}, packed(packed()), 415, None),
        ({"content-encoding": "gzip"}, body(), 400, "malformed"),
        ({"content-encoding": "gzip"}, packed()[:-9], 400, "malformed"),
        ({"content-encoding": "gzip"}, packed() + b"x", 400, "malformed"),
        ({"content-encoding": "deflate"}, packed(), 400, "malformed"),
        ({"content-encoding": "gzip"}, packed(b" " * 2**26), 413, "too_large"),
        ({"inference-header-content-length": "10"}, body(), 400, "malformed"),
        ({"inference-header-content-length": "999999"}, body(), 400, "malformed"),
        ({"inference-header-content-length": "-1"}, body(), 400, "malformed"),
        ({"inference-header-content-length": "0"}, b"123", 400, "invalid_input"),
        ({"inference-header-content-length": "0"}, b"", 400, "invalid_input"),
    ],
)
async def test_encodings_and_lengths(
    client: httpx.AsyncClient,
    headers: dict[str, str],
    content: bytes,
    status: int,
    code: str | None,
) -> None:
    answer = await client.post(INFER, content=content, headers=headers)
    assert answer.status_code == status
    assert check(answer) == (code or "unsupported_media")
    assert (await client.post(INFER, content=body())).status_code == 200


async def test_paths_and_methods(client: httpx.AsyncClient) -> None:
    for method, path, status, allow in (
        ("GET", INFER, 405, "POST"),
        ("DELETE", INFER, 405, "POST"),
        ("POST", "/v2", 405, "GET"),
        ("POST", "/v2/health/ready", 405, "GET"),
        ("GET", "/", 404, None),
        ("POST", "/v2/models/other/infer", 404, None),
        ("POST", "/v2/models/m/versions/2/infer", 404, None),
        ("GET", "/v2/models/other", 404, None),
        ("GET", "/v2/models/m/versions/x/ready", 404, None),
        ("POST", "/v2/models/m/infer/", 404, None),
        ("GET", "/v2/models/" + "x" * 5000, 404, None),
        ("POST", "/v2/models/%2e%2e/infer", 404, None),
        ("POST", "/v2/repository/models/m/unload", 403, None),
    ):
        answer = await client.request(method, path, content=body() if method == "POST" else None)
        assert answer.status_code == status, (method, path, answer.text)
        assert answer.headers.get("allow") == allow
        check(answer)


def test_a_conversion_does_not_make_infinity() -> None:
    spec = TensorSpec("x", "FP32", (1,), casts=True)
    with pytest.raises(InvalidInputError, match="outside FP32"):
        decode_tensor({"datatype": "FP64", "shape": [1], "data": [1e300]}, spec)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | JSON,
        "datatype": st.just("FP32") | JSON,
        "shape": st.lists(st.integers(-2, 6), max_size=3) | JSON,
        "data": st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8) | JSON,
        "parameters": JSON,
    },
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "inputs": st.lists(TENSORS, max_size=2) | JSON,
            "outputs": JSON,
            "id": JSON,
            "parameters": JSON,
        },
    )
)
async def test_generated_requests_never_reach_the_model_broken(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    answer = await client.post(INFER, json=document)
    if answer.status_code != 200:
        check(answer)
