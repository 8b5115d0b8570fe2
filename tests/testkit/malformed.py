"""Requests that are broken on purpose: valid ones, each with one fault put in.

All are for a model that takes ``x``, FP32 of [-1, 4], and gives ``y``.
"""

from __future__ import annotations

import copy
import functools
import gzip
import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

INFER = "/v2/models/m/infer"
V1 = "/v1/models/m:predict"
PREDICT = "/predict/m"
GENERATE = ("/v2/models/m/generate", "/v2/models/m/generate_stream")
LENGTH = "inference-header-content-length"


class Malformed(NamedTuple):
    """One request.

    Attributes:
        path: Where it goes, with POST.
        headers: Its headers.
        body: Its bytes.
    """

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


# Values of another kind than what stands in their place.
SCALARS = st.none() | st.booleans() | st.text(max_size=4)
NO_NUMBER = (
    SCALARS | st.lists(st.integers(), max_size=2) | st.dictionaries(st.text(max_size=3), st.none())
)
NO_LIST = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just({"a": 1})
NO_TEXT = st.booleans() | st.integers() | st.lists(st.integers(), max_size=2) | st.just({"a": "b"})
NO_OBJECT = st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.none(), max_size=2)
NO_ROW = st.lists(st.integers(-9, 9), max_size=7).filter(lambda row: len(row) != 4)
NO_SIZE = (
    st.integers(max_value=-1)
    | st.integers(2, 9)
    | st.sampled_from([2**31, 2**32 + 1, 2**62, 2**63, 2**64 + 1, 10**30])
    | st.booleans()
    | st.sampled_from(["1", 1.0, None, [1]])
)
BEYOND = st.sampled_from([1e39, -1e39, 1e300, 3.5e38])


def _row() -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0]}


@st.composite
def infer_documents(draw: st.DrawFn) -> dict[str, Any]:
    """Put one fault into an inference request."""
    tensor = _row()
    document: dict[str, Any] = {"id": "a", "inputs": [tensor], "outputs": [{"name": "y"}]}
    at = draw(st.integers(0, 3))
    faults: list[Callable[[], Any]] = [
        lambda: tensor.pop(draw(st.sampled_from(sorted(tensor)))),
        lambda: tensor.update(shape=draw(NO_LIST)),
        lambda: tensor.update(data=draw(NO_LIST)),
        lambda: tensor.update(name=draw(NO_TEXT | st.text(max_size=5).filter(lambda t: t != "x"))),
        lambda: tensor.update(
            datatype=draw(NO_TEXT | st.sampled_from(["FP64", "INT8", "BYTES", "BOOL", "fp32", ""]))
        ),
        lambda: tensor["shape"].__setitem__(at % 2, draw(NO_SIZE.filter(lambda s: s != 4))),
        lambda: tensor["shape"].insert(at % 3, draw(st.integers(0, 9))),
        tensor["shape"].pop,
        lambda: tensor["data"].__setitem__(at, draw(NO_NUMBER)),
        lambda: tensor["data"].__setitem__(at, draw(BEYOND)),
        lambda: tensor["data"].extend(draw(st.lists(st.integers(), min_size=1, max_size=4))),
        lambda: tensor.update(data=tensor["data"][:at]),
        lambda: tensor.update(data=[draw(NO_ROW)]),
        lambda: tensor.update(parameters=draw(NO_OBJECT)),
        lambda: document["inputs"].append(copy.deepcopy(tensor)),
        lambda: document["inputs"].append({**tensor, "name": draw(st.text("abc", max_size=4))}),
        lambda: document.update(inputs=draw(NO_LIST)),
        lambda: document.update(inputs=[draw(NO_OBJECT)]),
        lambda: document.update(inputs=[]),
        lambda: document.update(id=draw(NO_TEXT)),
        lambda: document.update(id="i" * draw(st.integers(1025, 1040))),
        lambda: document.update(outputs=draw(NO_TEXT.filter(lambda v: v != []))),
        lambda: document["outputs"].append(
            draw(st.fixed_dictionaries({"name": st.text(max_size=4)}))
        ),
        lambda: document["outputs"][0].update(
            parameters={"classification": draw(st.just(-1) | SCALARS)}
        ),
        lambda: document["outputs"][0].update(parameters={"binary_data": draw(st.integers())}),
        lambda: document.update(parameters=draw(NO_OBJECT)),
        lambda: document.update(
            parameters={
                draw(st.sampled_from(["timeout", "priority"])): draw(
                    st.integers(max_value=-1) | SCALARS
                )
            }
        ),
        lambda: document.update(parameters={"binary_data_output": draw(st.integers())}),
    ]
    faults[draw(st.integers(0, len(faults) - 1))]()
    return document


@st.composite
def broken_texts(draw: st.DrawFn, document: Any) -> bytes:
    """Make a JSON text one that is none."""
    text = json.dumps(document).encode()
    literals = [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"01", b"0x1"]
    escapes = [rb"\ud800", rb"\udfff", rb"\x", rb"\u12", b"\xff", b"\n", b"\xc0\x80"]
    tails = [b"}", b",", b"\0", b"{}", b"x"]
    colons = [b"", b"=", b"::", b",", b";"]
    others = [b"", b" ", b"\0", b"null", b"true", b"[]", b"7", b'"x"']
    broken: bytes = draw(
        st.one_of(
            st.integers(1, len(text) - 1).map(lambda at: text[:at]),
            st.just(b"\xef\xbb\xbf" + text),
            st.sampled_from(tails).map(lambda tail: text + tail),
            st.integers(1025, 5000).map(lambda depth: b"[" * depth + text),
            st.sampled_from(literals).map(lambda literal: text.replace(b"1", literal, 1)),
            st.sampled_from(escapes).map(lambda escape: text.replace(b'"', b'"' + escape, 1)),
            st.sampled_from(colons).map(lambda colon: text.replace(b":", colon, 1)),
            st.sampled_from(others),
        )
    )
    return broken


@st.composite
def binary_requests(draw: st.DrawFn) -> Malformed:
    """Put one fault into a request with a binary tensor."""
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
    size: Any = 16
    tail, off, length = bytes(16), 0, None
    kind = draw(st.integers(0, 6))
    if kind == 0:
        size = draw(
            st.integers().filter(lambda n: n != 16) | SCALARS.filter(lambda v: v is not None)
        )
    elif kind == 1:
        tail = bytes(draw(st.integers(0, 64).filter(lambda n: n != 16)))
    elif kind == 2:
        off = draw(st.integers(-80, 80).filter(bool))
    elif kind == 3:
        length = draw(
            st.sampled_from(["-1", "", "x", "1.5", "0x10", " ", "9" * 5000, "1e3", "+5", "²"])
            | st.integers(1000, 2**70).map(str)
        )
    elif kind == 4:
        tensor["data"] = [1, 2, 3, 4]
    elif kind == 5:
        tensor["shape"] = [1, draw(NO_SIZE.filter(lambda s: s != 4))]
    else:
        tensor["datatype"] = draw(st.sampled_from(["BYTES", "FP64", "FP16", "INT8", "nothing"]))
    document = {"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}
    text = json.dumps(document).encode()
    stated = str(max(len(text) + off, 1)) if length is None else length
    return Malformed(INFER, ((LENGTH, stated),), text + tail)


@st.composite
def v1_documents(draw: st.DrawFn) -> Any:
    """Put one fault into a V1 request."""
    row: list[Any] = [1.0, 2.0, 3.0, 4.0]
    bad = row.copy()
    bad[draw(st.integers(0, 3))] = draw(NO_NUMBER | BEYOND)
    rows = draw(
        NO_ROW.map(lambda short: [row, short])
        | st.just([row, bad])
        | st.just([{"x": bad}])
        | NO_LIST.map(lambda value: [row, value])
        | st.text("abc", max_size=4).map(lambda name: [{name: row}])
        | st.integers(2, 40).map(lambda depth: json.loads("[" * depth + "1" + "]" * depth))
        | st.just([])
    )
    word = draw(st.sampled_from(["instances", "inputs"]))
    return draw(
        st.sampled_from(
            [
                {word: rows},
                {word: bad},
                {word: draw(NO_LIST)},
                {"instances": [row], "inputs": [row]},
                {word: [row], "signature_name": draw(NO_TEXT)},
                {draw(st.text(max_size=9)): [row]},
                draw(NO_OBJECT),
            ]
        )
    )


@st.composite
def plain_documents(draw: st.DrawFn) -> Any:
    """Put one fault into a request for ``/predict``."""
    row: list[Any] = [1.0, 2.0, 3.0, 4.0]
    row[draw(st.integers(0, 3))] = draw(NO_NUMBER | BEYOND)
    return draw(
        st.sampled_from(
            [
                row,
                [[1, 2, 3, 4], row],
                {"input": row},
                {draw(st.text("abc", max_size=4)): [1, 2, 3, 4]},
                draw(NO_ROW),
                [draw(NO_ROW)],
                draw(NO_LIST),
                {"x": draw(NO_LIST)},
            ]
        )
    )


@st.composite
def generate_documents(draw: st.DrawFn) -> Any:
    """Put one fault into a generate request."""
    row: list[Any] = [1.0, 2.0, 3.0, 4.0]
    bad = row.copy()
    bad[draw(st.integers(0, 3))] = draw(NO_NUMBER | BEYOND)
    return draw(
        st.sampled_from(
            [
                {"x": bad},
                {"x": draw(NO_ROW)},
                {"x": draw(NO_LIST)},
                {"x": row, "id": draw(NO_TEXT)},
                {"x": row, "parameters": draw(NO_OBJECT)},
                {"x": row, "timeout": draw(st.integers(max_value=-1) | SCALARS)},
                {
                    "x": row,
                    draw(st.text("abc", max_size=4)): draw(st.lists(st.integers(), max_size=3)),
                },
                {draw(st.text("abc", max_size=4)): row},
                draw(NO_OBJECT),
            ]
        )
    )


@st.composite
def files(draw: st.DrawFn) -> Malformed:
    """Break an npy file or a picture, or call it something else."""
    file = io.BytesIO()
    np.save(file, np.zeros((1, 4), np.float32))
    whole = file.getvalue()
    kind = draw(st.integers(0, 4))
    if kind == 0:
        content_type, body = "application/x-npy", whole[: draw(st.integers(0, len(whole) - 1))]
    elif kind == 1:
        shape = draw(
            st.sampled_from(["(9, 4)", "(-1,4)", "(1, 5)", "(4, )", "()    ", "[1, 4]", "1 if 1"])
        )
        content_type, body = "application/x-npy", whole.replace(b"(1, 4)", shape.encode())
    elif kind == 2:
        kind_of = draw(
            st.sampled_from([b"'|O' ", b"'<c8'", b"'<U1'", b"'<M8'", b"'|b1'", b"'|S0'", b"'<x9'"])
        )
        content_type, body = "application/x-npy", whole.replace(b"'<f4'", kind_of)
    elif kind == 3:
        content_type = draw(st.sampled_from(["image/png", "image/jpeg"]))
        body = draw(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])) + draw(
            st.binary(max_size=40)
        )
    else:
        content_type = draw(
            st.sampled_from(["text/plain", "text/csv", "application/xml", "image/gif", "x", "*/*"])
        )
        body = b"[1, 2, 3, 4]"
    return Malformed(PREDICT, (("content-type", content_type),), body)


@st.composite
def encoded(draw: st.DrawFn) -> Malformed:
    """Break a content encoding."""
    packed = gzip.compress(json.dumps({"inputs": [_row()]}).encode(), mtime=0)
    kind = draw(st.integers(0, 3))
    encoding, body = "gzip", packed
    if kind == 0:
        body = packed[: draw(st.integers(0, len(packed) - 1))]
    elif kind == 1:
        body = packed + draw(st.binary(min_size=1, max_size=8))
    elif kind == 2:
        encoding = draw(st.sampled_from(["br", "zstd", "compress", "gzip, gzip", "deflate", "x"]))
    else:
        body = draw(st.binary(max_size=30))
    return Malformed(INFER, (("content-encoding", encoding),), body)


def _as_request(path: str) -> Callable[[Any], Malformed]:
    def build(document: Any) -> Malformed:
        return Malformed(
            path, (("content-type", "application/json"),), json.dumps(document).encode()
        )

    return build


def _as_broken(path: str, document: Any) -> st.SearchStrategy[Malformed]:
    headers = (("content-type", "application/json"),)
    return broken_texts(document).map(lambda body: Malformed(path, headers, body))


MALFORMED: st.SearchStrategy[Malformed] = st.one_of(
    infer_documents().map(_as_request(INFER)),
    binary_requests(),
    v1_documents().map(_as_request(V1)),
    plain_documents().map(_as_request(PREDICT)),
    *(generate_documents().map(_as_request(path)) for path in GENERATE),
    files(),
    encoded(),
    _as_broken(INFER, {"inputs": [_row()]}),
    _as_broken(V1, {"instances": [[1, 2, 3, 4]]}),
    _as_broken(PREDICT, {"x": [1, 2, 3, 4]}),
    _as_broken(GENERATE[1], {"x": [1, 2, 3, 4]}),
)
"""Every kind, every protocol."""


@functools.cache
def corpus(size: int) -> tuple[Malformed, ...]:
    """Collect distinct requests, the same ones every time.

    Args:
        size: How many examples are drawn; a few of them are the same.

    Returns:
        The requests.
    """
    found: dict[Malformed, None] = {}

    @settings(
        max_examples=size,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(MALFORMED)
    def collect(request: Malformed) -> None:
        found[request] = None

    collect()
    return tuple(found)
