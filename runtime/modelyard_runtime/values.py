"""What a user's code returns ↔ arrays of the declared tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from modelyard_runtime.engine.protocol import ANY, DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelyard_runtime.engine.protocol import Array, Arrays, TensorSpec


class ValueMismatchError(Exception):
    """A user's code returned something else than it declares."""


def as_named(arrays: Arrays, names: Iterable[TensorSpec | str]) -> dict[str, Array]:
    """Put names to arrays.

    Args:
        arrays: In the order of the names.
        names: Tensors, or their names.

    Returns:
        Name → array.
    """
    keys = (name if isinstance(name, str) else name.name for name in names)
    return dict(zip(keys, arrays, strict=True))


def as_arrays(value: object, specs: Sequence[TensorSpec]) -> Arrays:
    """Turn what a function returned into the arrays that it declares.

    Args:
        value: A mapping by name; a tuple in the declared order; or, for one tensor, its value: an
            array, a tensor of torch, a list, a number or a string.
        specs: What is declared.

    Returns:
        One C-contiguous, writable array per declared tensor; strings as objects of ``bytes``.

    Raises:
        ValueMismatchError: A tensor is missing, unknown, or not as declared.
    """
    wanted = [spec.name for spec in specs]
    if isinstance(value, Mapping):
        unlike = sorted(map(str, set(wanted) ^ set(value)))
        if unlike:
            got = ", ".join(map(repr, value)) or "nothing"
            raise ValueMismatchError(f"expected tensors {', '.join(map(repr, wanted))}, got {got}")
        values = [value[name] for name in wanted]
    elif len(specs) == 1 and not (isinstance(value, tuple) and len(value) == 1):
        values = [value]
    elif isinstance(value, (tuple, list)) and len(value) == len(specs):
        values = list(value)
    else:
        got = f"{len(value)}" if isinstance(value, (tuple, list)) else type(value).__name__
        raise ValueMismatchError(f"expected {len(specs)} tensors, got {got}")
    return tuple(_as_array(each, spec) for each, spec in zip(values, specs, strict=True))


def _as_array(value: Any, spec: TensorSpec) -> Array:
    if hasattr(value, "detach"):  # a tensor of torch, which this room does not import
        value = value.detach().cpu()
        value = value.float().numpy() if "bfloat16" in str(value.dtype) else value.numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueMismatchError(f"{spec.name!r} is no array: {error}") from None
    if array.dtype.kind in "USTO":
        array = _as_bytes(array, spec)
    if spec.datatype != ANY:
        target = DTYPES[spec.datatype]
        if array.dtype != target:
            if not np.can_cast(array.dtype, target, casting="same_kind") or "O" in (
                array.dtype.kind + target.kind
            ):
                raise ValueMismatchError(
                    f"{spec.name!r}: expected {spec.datatype}, got {array.dtype}"
                )
            array = array.astype(target)
    _check_shape(array, spec)
    array = np.ascontiguousarray(array) if array.ndim else array
    return array if array.flags.writeable else array.copy()


def _as_bytes(array: Array, spec: TensorSpec) -> Array:
    words = []
    for word in array.reshape(-1).tolist():
        if not isinstance(word, (str, bytes)):
            raise ValueMismatchError(
                f"{spec.name!r} holds a {type(word).__name__}, expected numbers or strings"
            )
        words.append(word.encode() if isinstance(word, str) else word)
    encoded: Array = np.empty(len(words), dtype=np.object_)
    encoded[:] = words
    return encoded.reshape(array.shape)


def _check_shape(array: Array, spec: TensorSpec) -> None:
    if spec.shape is None:
        return
    fits = len(spec.shape) == array.ndim and all(
        want in {-1, got} for want, got in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueMismatchError(
            f"{spec.name!r}: expected shape {list(spec.shape)}, got {list(array.shape)}"
        )
