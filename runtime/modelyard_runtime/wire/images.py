"""PNG and JPEG pictures → the tensor that a model takes."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from modelyard_runtime.engine.protocol import ANY, DTYPES
from modelyard_runtime.errors import InvalidInputError, MalformedRequestError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.engine.protocol import Array, TensorSpec

_MODES: Final[Mapping[int, str]] = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels → how Pillow calls such a picture."""
_DEEP: Final = ("I", "F")
"""Modes of more than 8 bits, which Pillow would cut off without a word."""
_BROKEN: Final = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, OverflowError),
    *(struct.error, zlib.error),
)
"""What Pillow's decoders raise on bytes that are no picture."""


class ImageLayout(NamedTuple):
    """Where a declared input keeps what of a picture.

    Attributes:
        channels: 1, 3 or 4.
        height: In pixels; -1 is any.
        width: In pixels; -1 is any.
        first: Whether channels come before height and width.
        batched: Whether an axis of pictures comes first.
    """

    channels: int
    height: int
    width: int
    first: bool
    batched: bool


def image_layout(spec: TensorSpec) -> ImageLayout:
    """Read the layout of pictures off an input.

    Args:
        spec: The declared input: three axes, or four with pictures first. The first of them (NCHW),
            else the last (NHWC), that is of size 1, 3 or 4 is taken for the channels.

    Returns:
        The layout.

    Raises:
        InvalidInputError: The input does not take pictures.
    """
    shape = spec.shape or ()
    numeric = spec.datatype != ANY and DTYPES[spec.datatype].kind in "fVu"
    sizes = shape[-3:]
    if numeric and len(shape) in {3, 4} and (len(shape) == 3 or shape[0] in {-1, 1}):  # noqa: PLR2004
        batched = len(shape) == 4  # noqa: PLR2004
        if sizes[0] in _MODES:
            return ImageLayout(sizes[0], sizes[1], sizes[2], first=True, batched=batched)
        if sizes[2] in _MODES:
            return ImageLayout(sizes[2], sizes[0], sizes[1], first=False, batched=batched)
    raise InvalidInputError(
        f"input {spec.name!r} takes no picture: it is {spec.datatype} {list(shape)}, "
        "not unsigned or floating point of [N, C, H, W] or [N, H, W, C]"
    )


def decode_image(body: bytes, spec: TensorSpec, *, limit: int) -> Array:
    """Decode a picture.

    It is turned as its EXIF orientation says, converted to the declared channels, and resized
    (bilinear, antialiased, without regard to its proportions) where the declared height or width is
    another. Integers are 0 to 255, floating point 0 to 1.

    Args:
        body: A PNG or JPEG file.
        spec: The declared input.
        limit: Most bytes that the decoded picture may take; asked before it is decoded.

    Returns:
        Writable C-contiguous array of the declared shape and datatype.

    Raises:
        MalformedRequestError: It is no such file, or broken.
        InvalidInputError: The input takes no pictures, or not this kind.
        TooLargeError: It would be larger than ``limit``.
    """
    layout = image_layout(spec)
    picture = _opened(body, layout, limit)
    size = (
        picture.width if layout.width == -1 else layout.width,
        picture.height if layout.height == -1 else layout.height,
    )
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    pixels: Array = np.asarray(picture).reshape(size[1], size[0], layout.channels)
    if layout.first:
        pixels = pixels.transpose(2, 0, 1)
    if layout.batched:
        pixels = pixels[np.newaxis]
    dtype: np.dtype[Any] = DTYPES[spec.datatype]
    if dtype.kind == "u":
        return np.array(pixels, dtype, order="C")
    return np.array(pixels / np.float32(255), dtype, order="C")


def _opened(body: bytes, layout: ImageLayout, limit: int) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(body), formats=("PNG", "JPEG"))
        _check_size(picture, layout, limit)
        if picture.mode.split(";")[0] in _DEEP:
            raise InvalidInputError("the picture has more than 8 bits to a channel")
        return ImageOps.exif_transpose(picture).convert(_MODES[layout.channels])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # Pillow's own limits
        raise TooLargeError(f"the decoded picture is larger than {limit} bytes") from None
    except _BROKEN as error:
        raise MalformedRequestError(f"the body is no PNG or JPEG: {str(error)[:200]}") from None


def _check_size(picture: Image.Image, layout: ImageLayout, limit: int) -> None:
    size = picture.width * picture.height * max(len(picture.getbands()), layout.channels)
    if size > limit:
        raise TooLargeError(
            f"the decoded picture takes {size} bytes ({picture.width} x {picture.height}), "
            f"the limit is {limit}"
        )
