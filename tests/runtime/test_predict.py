"""``POST /predict/{model}``: rows, arrays, pictures and texts, by content type."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

PREDICT = "/predict/m"
NPY = {"content-type": "application/x-npy"}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def picture(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, kind, **options)
    return file.getvalue()


def claiming(width: int, height: int) -> bytes:
    """Write a small PNG that says it is large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"IDAT" + zlib.compress(b"")
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, body, b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(models.linear_onnx(tmp_path / "m.onnx")) as (client, _):
        yield client


async def test_json_rows(client: httpx.AsyncClient) -> None:
    row, expected = [1, 0, 0, 0], pytest.approx([0, 0.1, 0.2])
    for body, answer in (
        (row, {"y": expected}),
        ([row], {"y": [expected]}),
        ([row, row], {"y": [expected, expected]}),
        ({"input": row}, {"y": expected}),
        ({"input": [row]}, {"y": [expected]}),
        ({"x": row}, {"y": expected}),
        ({"x": [row]}, {"y": [expected]}),
        ([{"x": row}], {"y": [expected]}),
    ):
        got = await client.post(PREDICT, json=body)
        assert got.status_code == 200, got.text
        assert got.json() == answer
        assert got.text.endswith("\n")


async def test_what_curl_sends_by_default_is_json(client: httpx.AsyncClient) -> None:
    for headers in ({"content-type": "application/x-www-form-urlencoded"}, {}):
        answer = await client.post(PREDICT, content=b"[1,0,0,0]", headers=headers)
        assert answer.json() == {"y": pytest.approx([0, 0.1, 0.2])}
    answer = await client.post("/predict/m/versions/1", json=[1, 0, 0, 0])
    assert answer.status_code == 200


async def test_several_inputs(tmp_path: Path) -> None:
    async with serving(models.two_inputs_onnx(tmp_path / "m.onnx")) as (client, _):
        answer = await client.post(PREDICT, json={"a": [1, 2], "b": [3, 4]})
        assert answer.json() == {"y": [4, 6]}
        answer = await client.post(PREDICT, json=[{"a": [1, 2], "b": [3, 4]}])
        assert answer.json() == {"y": [[4, 6]]}
        answer = await client.post(PREDICT, json=[1, 2])
        assert answer.json()["error"] == "the model takes 2 inputs, name them: 'a', 'b'"


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "int64", "uint8", "float16"])
async def test_npy_both_ways(client: httpx.AsyncClient, dtype: str) -> None:
    rows = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], dtype)
    for array in (rows, np.asfortranarray(rows)):
        answer = await client.post(
            PREDICT, content=npy(array), headers={**NPY, "accept": "application/x-npy"}
        )
        assert answer.headers["content-type"] == "application/x-npy"
        got = np.load(io.BytesIO(answer.content), allow_pickle=False)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, rows.astype(np.float32) @ models.WEIGHTS, rtol=1e-6)


async def test_npy_of_texts(tmp_path: Path) -> None:
    async with serving(models.identity_onnx(tmp_path / "m.onnx", "BYTES", ["b"])) as (client, _):
        for words in (np.array(["a", "bé"]), np.array([b"a", "bé".encode()])):
            answer = await client.post(PREDICT, content=npy(words), headers=NPY)
            assert answer.json() == {"y": ["a", "bé"]}
        back = await client.post(PREDICT, json=["a"], headers={"accept": "application/x-npy"})
        assert np.load(io.BytesIO(back.content)).tolist() == [b"a"]


HUGE = npy(np.zeros((1, 4), np.float32)).replace(b"(1, 4), }         ", b"(9999999999, 4), }")
BAD_NPY: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "malformed"),
    "magic alone": (b"\x93NUMPY", "malformed"),
    "another version": (b"\x93NUMPY\x09\x00" + npy(np.zeros(1))[8:], "malformed"),
    "cut off": (npy(np.zeros((1, 4), np.float32))[:-1], "malformed"),
    "too long": (npy(np.zeros((1, 4), np.float32)) + b"\0", "malformed"),
    "shape without its bytes": (HUGE, "malformed"),
    "header that is code": (
        b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').getcwd()".ljust(32),
        "malformed",
    ),
    "deep header": (b"\x93NUMPY\x01\x00\xb8\x0b" + b"(" * 3000, "malformed"),
    "long header": (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b" " * 70_000, "malformed"),
    "negative size": (
        npy(np.zeros((1, 4), np.float32)).replace(b"(1, 4), } ", b"(-1, 4), }"),
        "invalid_input",
    ),
    "objects": (npy(np.array([[{}, 1, 2, 3]], object)), "invalid_input"),
    "records": (npy(np.zeros(1, [("a", "f4"), ("b", "f4")])), "invalid_input"),
    "no bytes to an element": (npy(np.zeros((1, 4), "S0")), "invalid_input"),
    "complex": (npy(np.zeros((1, 4), np.complex64)), "invalid_input"),
    "dates": (npy(np.zeros((1, 4), "M8[s]")), "invalid_input"),
    "booleans": (npy(np.zeros((1, 4), np.bool_)), "invalid_input"),
    "text": (npy(np.array([["a", "b", "c", "d"]])), "invalid_input"),
    "rank": (npy(np.zeros(4, np.float32)), "invalid_input"),
    "size": (npy(np.zeros((1, 5), np.float32)), "invalid_input"),
    "no rows": (npy(np.zeros((0, 4), np.float32)), "invalid_input"),
    "beyond float32": (npy(np.full((1, 4), 1e39)), "invalid_input"),
}


@pytest.mark.parametrize("name", BAD_NPY)
async def test_bad_npy(client: httpx.AsyncClient, name: str) -> None:
    content, code = BAD_NPY[name]
    answer = await client.post(PREDICT, content=content, headers=NPY)
    assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text


async def test_integers_are_converted_unless_they_change(tmp_path: Path) -> None:
    async with serving(models.identity_onnx(tmp_path / "m.onnx", "INT8", ["b"])) as (client, _):
        answer = await client.post(PREDICT, content=npy(np.array([-128, 127])), headers=NPY)
        assert answer.json() == {"y": [-128, 127]}
        for array in (np.array([128]), np.array([1.0])):
            answer = await client.post(PREDICT, content=npy(array), headers=NPY)
            assert answer.json()["code"] == "invalid_input"


PIXELS = np.arange(2 * 3 * 3).reshape(2, 3, 3)
"""Two pixels high, three wide."""


@pytest.mark.parametrize(
    ("shape", "datatype"),
    [
        (["b", 3, 2, 3], "FP32"),
        (["b", 3, 2, 3], "UINT8"),
        (["b", 3, "h", "w"], "FP32"),
        (["b", 2, 3, 3], "FP32"),
        (["b", "h", "w", 3], "FP16"),
        ([3, 2, 3], "FP32"),
    ],
)
async def test_pictures(tmp_path: Path, shape: list[Any], datatype: str) -> None:
    model = models.identity_onnx(tmp_path / "m.onnx", datatype, shape)
    first = shape[-3] == 3
    expected: Any = np.moveaxis(PIXELS, -1, 0) if first else PIXELS
    if datatype != "UINT8":
        expected = expected / 255
    async with serving(model) as (client, _):
        for rows in ("image/png", "image/png; name=x"):
            answer = await client.post(
                PREDICT, content=picture(PIXELS), headers={"content-type": rows}
            )
            assert answer.status_code == 200, answer.text
            np.testing.assert_allclose(answer.json()["y"], expected, atol=1e-3)


async def test_pictures_take_the_declared_size_and_channels(tmp_path: Path) -> None:
    model = models.identity_onnx(tmp_path / "m.onnx", "UINT8", ["b", 1, 4, 4])
    flat = np.full((8, 8, 3), 200)
    async with serving(model) as (client, _):
        for content, kind in ((picture(flat), "png"), (picture(flat, "JPEG"), "jpeg")):
            answer = await client.post(
                PREDICT, content=content, headers={"content-type": f"image/{kind}"}
            )
            assert answer.json() == {"y": np.full((1, 4, 4), 200).tolist()}


async def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    model = models.identity_onnx(tmp_path / "m.onnx", "UINT8", ["b", "h", "w", 3])
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees
    async with serving(model) as (client, _):
        content = picture(PIXELS, "PNG", exif=turned)
        answer = await client.post(PREDICT, content=content, headers={"content-type": "image/png"})
        assert np.array(answer.json()["y"]).tolist() == np.rot90(PIXELS, -1).tolist()


async def test_pictures_that_are_refused(tmp_path: Path) -> None:
    model = models.identity_onnx(tmp_path / "m.onnx", "FP32", ["b", 3, "h", "w"])
    whole = picture(PIXELS)
    deep = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(deep, "PNG")
    async with serving(model) as (client, _):
        for content, status, code in (
            (b"", 400, "malformed"),
            (b"GIF89a", 400, "malformed"),
            (whole[:-30], 400, "malformed"),
            (whole[:40] + b"\xff" * 9 + whole[49:], 400, "malformed"),
            (deep.getvalue(), 400, "invalid_input"),
            (claiming(60_000, 60_000), 413, "too_large"),
            (claiming(9_000, 9_000), 413, "too_large"),
        ):
            answer = await client.post(
                PREDICT, content=content, headers={"content-type": "image/png"}
            )
            assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_a_picture_for_a_model_of_numbers(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        PREDICT, content=picture(PIXELS), headers={"content-type": "image/png"}
    )
    assert answer.status_code == 400
    assert "takes no picture" in answer.json()["error"]


@pytest.mark.parametrize("shape", [["b"], ["b", 1], [1]])
async def test_a_text(tmp_path: Path, shape: list[Any]) -> None:
    model = models.identity_onnx(tmp_path / "m.onnx", "BYTES", shape)
    headers = {"content-type": "text/plain; charset=utf-8"}
    async with serving(model) as (client, _):
        answer = await client.post(PREDICT, content="größer\n".encode(), headers=headers)
        assert json.dumps(answer.json(), ensure_ascii=False).count("größer\\n") == 1
        answer = await client.post(PREDICT, content=b"\xff", headers=headers)
        assert answer.json()["code"] == "invalid_input"


async def test_refusals(client: httpx.AsyncClient) -> None:
    for headers, content, status, code in (
        ({"content-type": "application/xml"}, b"<x/>", 415, "unsupported_media"),
        ({"content-type": "text/plain"}, b"1", 400, "invalid_input"),
        ({"content-type": "application/json"}, b"", 400, "malformed"),
        ({"content-type": "application/json"}, b"{}", 400, "invalid_input"),
        ({"content-type": "application/json"}, b"[]", 400, "invalid_input"),
        ({"content-type": "application/json"}, b"null", 400, "invalid_input"),
        ({"content-type": "application/json"}, b"[[1,2,3]]", 400, "invalid_input"),
        ({"content-type": "application/json"}, b'{"input": {}}', 400, "invalid_input"),
    ):
        answer = await client.post(PREDICT, content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert (await client.get(PREDICT)).status_code == 405
    assert (await client.post("/predict/other", json=[1])).status_code == 404
    assert (await client.post("/predict/m/explain", json=[1])).status_code == 404


async def test_npy_holds_one_output(tmp_path: Path) -> None:
    async with serving(models.log_onnx(tmp_path / "m.onnx")) as (client, _):
        answer = await client.post(PREDICT, json=[[1]], headers={"accept": "application/x-npy"})
        assert answer.status_code == 400
        assert (await client.post(PREDICT, json=[[-1]])).json()["code"] == "non_finite"
