"""The form of a body chooses how a model is asked."""

import io
import json

import numpy as np
import pytest

from modelyard_cli.errors import BodyError
from modelyard_cli.prediction import build_question

V2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (V2, "/v2/models/iris/infer"),
        ({"instances": [[1.0]]}, "/v1/models/iris:predict"),
        ([[1.0, 2.0]], "/predict/iris"),
        ({"age": 3}, "/predict/iris"),
        ({"inputs": [[1.0]]}, "/predict/iris"),
        (1.5, "/predict/iris"),
    ],
)
def test_json_goes_where_its_form_is_spoken(document: object, path: str) -> None:
    question = build_question(json.dumps(document).encode(), "iris")
    assert question.path == path
    assert question.body == document
    assert question.content_type == "application/json"


def test_an_npy_file_goes_as_it_is() -> None:
    file = io.BytesIO()
    np.save(file, np.ones((2, 3), dtype=np.float32))
    question = build_question(file.getvalue(), "iris")
    assert (question.path, question.content_type) == ("/predict/iris", "application/x-npy")
    assert question.body == file.getvalue()


def test_pictures_and_text_are_told_by_their_bytes() -> None:
    assert build_question(b"\x89PNG\r\n\x1a\nrest", "m").content_type == "image/png"
    assert build_question(b"\xff\xd8\xff\xe0rest", "m").content_type == "image/jpeg"
    text = build_question(b"a good film", "m")
    assert (text.content_type, text.body) == ("text/plain", "a good film")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b" \n", "the body is empty"),
        (b'{"a": ', "begins like JSON and is none"),
        (b"\xfe\xfe\xfe", "neither JSON, npy, PNG, JPEG nor UTF-8 text"),
    ],
)
def test_a_body_that_is_nothing_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BodyError, match=message):
        build_question(body, "m")


def test_headers_are_sent_and_a_broken_one_is_refused() -> None:
    question = build_question(b"[1]", "m", headers=["X-API-Key: a:b", "x-n:1"])
    assert question.headers == {"X-API-Key": "a:b", "x-n": "1"}
    with pytest.raises(BodyError, match="expected a header as 'Name: value', got 'nonsense'"):
        build_question(b"[1]", "m", headers=["nonsense"])
