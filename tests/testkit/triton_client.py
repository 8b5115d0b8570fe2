"""What the tests with the unmodified ``tritonclient`` ask, over HTTP and over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ml_dtypes
import numpy as np
import tritonclient.utils

from testkit import runtime_models as models

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]

DATATYPES: Final = (*models.ONNX_TYPES, "BF16")
_BF16: Final = "def predict(x):\n    return x\n"
_BF16_CONFIG: Final = """
format: Custom
inputs: [{name: x, dtype: BF16, shape: [-1, -1]}]
outputs: [{name: y, dtype: BF16, shape: [-1, -1]}]
"""
_TOLD: Final = """
import asyncio
import json

async def preprocess(request, ctx):
    await asyncio.sleep(request.parameters.get("seconds", 0))
    told = {"id": request.id, **request.parameters}
    return {"x": [[json.dumps(told, sort_keys=True)]]}

def predict(x):
    return x
"""
_TOLD_CONFIG: Final = """
format: Custom
inputs: [{name: x, dtype: BYTES, shape: [-1, 1]}]
outputs: [{name: y, dtype: BYTES, shape: [-1, 1]}]
"""
_PARTS: Final = """
import asyncio

def predict(x):
    return x

async def stream(request, ctx):
    for number in request.inputs["x"].reshape(-1):
        if number < 0:
            raise ValueError("secret")
        yield {"y": number.reshape(1, 1)}
        await asyncio.sleep(0)
"""
_PARTS_CONFIG: Final = """
format: Custom
inputs: [{name: x, dtype: INT32, shape: [-1, -1]}]
outputs: [{name: y, dtype: INT32, shape: [-1, -1]}]
"""
_HANDLERS: Final = {
    "identity-bf16": (_BF16, _BF16_CONFIG),
    "told": (_TOLD, _TOLD_CONFIG),
    "parts": (_PARTS, _PARTS_CONFIG),
}
NAMES: Final = frozenset({f"identity-{d.lower()}" for d in DATATYPES} | {"two"} | _HANDLERS.keys())
"""Every model that ``write_models`` writes."""


def write_models(folder: Path) -> Path:
    """Write an identity for each datatype, and some that do more; returns the folder."""
    for datatype in models.ONNX_TYPES:
        place = folder / f"identity-{datatype.lower()}" / "1"
        place.mkdir(parents=True)
        models.identity_onnx(place / "model.onnx", datatype, ["batch", "n"])
    place = folder / "two" / "3"
    place.mkdir(parents=True)
    models.two_inputs_onnx(place / "model.onnx")
    for name, (code, config) in _HANDLERS.items():
        (folder / name).mkdir()
        (folder / name / "handler.py").write_text(code)
        (folder / name / "model.yaml").write_text(config)
    return folder


def sample(datatype: str) -> Array:
    """Return a tensor of (2, 2) with the extremes of the datatype."""
    if datatype == "BYTES":
        return np.array([["", "größer ☃"], ["a" * 300, '"\\']], dtype=np.object_)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    dtype = np.dtype(tritonclient.utils.triton_to_np_dtype(datatype))
    kind: Any = np.iinfo if dtype.kind in "iu" else ml_dtypes.finfo
    limits = kind(dtype)
    return np.array([[limits.min, limits.max], [0, 1]], dtype=dtype)


def same(got: Array, sent: Array) -> None:
    """Require that an answer is what was sent."""
    if sent.dtype.kind == "O":
        words = [v.decode() if isinstance(v, bytes) else v for v in got.reshape(-1)]
        assert (got.shape, words) == (sent.shape, sent.reshape(-1).tolist())
    else:
        assert got.dtype == sent.dtype
        np.testing.assert_array_equal(got, sent, strict=True)
