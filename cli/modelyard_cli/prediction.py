"""A request to a model, made from a file as it lies there; pure.

The body's form chooses the protocol of the runtime: an Open Inference Protocol request goes to
``/v2``, ``instances`` to ``/v1``, and everything else (rows, an npy file, a picture, a text) to
``/predict``.

References:
    https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelyard_cli.errors import BodyError

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
MAGIC: Final = (
    (b"\x93NUMPY", NPY),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
)
"""First bytes of the formats that are told by them."""


@dataclass(frozen=True)
class Question:
    """One request to a model.

    Attributes:
        path: Path of the runtime.
        body: JSON as a document, anything else as bytes.
        content_type: What the body is.
        accept: What the answer may be.
        headers: More headers.
        timeout_s: Longest wait for the answer, in seconds.
    """

    path: str
    body: Any
    content_type: str
    accept: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0


def build_question(
    body: bytes, model: str, *, headers: Sequence[str] = (), timeout_s: float = 60.0
) -> Question:
    """Turn the bytes of a file into a request.

    Args:
        body: JSON, npy, PNG, JPEG or UTF-8 text.
        model: Name of the model.
        headers: More headers, each ``Name: value``.
        timeout_s: Longest wait for the answer, in seconds.

    Raises:
        BodyError: The body is empty or none of these, or a header has no name.
    """
    if not body.strip():
        raise BodyError("the body is empty", hint="give a file, or - and the body on stdin")
    extra = _headers(headers)
    for magic, content_type in MAGIC:
        if body.startswith(magic):
            path = f"/predict/{model}"
            return Question(path, body, content_type, headers=extra, timeout_s=timeout_s)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BodyError(
            f"the body is neither JSON, npy, PNG, JPEG nor UTF-8 text: {error}"
        ) from error
    try:
        document = json.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] in {"{", "["}:
            raise BodyError(f"the body begins like JSON and is none: {error}") from error
        path = f"/predict/{model}"
        return Question(path, text, "text/plain", headers=extra, timeout_s=timeout_s)
    return Question(_path(document, model), document, JSON, headers=extra, timeout_s=timeout_s)


def _path(document: Any, model: str) -> str:
    if isinstance(document, dict) and "instances" in document:
        return f"/v1/models/{model}:predict"
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if isinstance(inputs, list) and all(
        isinstance(one, dict) and "datatype" in one for one in inputs
    ):
        return f"/v2/models/{model}/infer"
    return f"/predict/{model}"


def _headers(lines: Sequence[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise BodyError(f"expected a header as 'Name: value', got {line!r}")
        found[name.strip()] = value.strip()
    return found
