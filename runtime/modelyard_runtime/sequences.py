"""Requests of different lengths in one batch: padded to a common length, cut back afterwards."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.errors import InvalidInputError, Reason, StartupError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from modelyard_runtime.config import ModelConfig, SequenceBatching
    from modelyard_runtime.engine.protocol import Array, Arrays, Model, TensorSpec


@dataclass(frozen=True, slots=True)
class Sequences:
    """Where the sequences of a model are.

    Attributes:
        axis: The axis that counts their elements, at least 1.
        buckets: Lengths that they are padded to, ascending.
        names: Of the inputs, by position.
        padding: Position of each padded input → what its padding holds. The first one tells the
            length; the others are as long.
        mask: The input that is 1 where the sequence is and 0 where the padding; None: the model takes
            none.
        mask_dtype: Its dtype.
        outputs: Positions of the outputs that may be as long as the padded sequence.
    """

    axis: int
    buckets: tuple[int, ...]
    names: tuple[str, ...]
    padding: Mapping[int, Any]
    mask: int | None
    mask_dtype: np.dtype[Any]
    outputs: frozenset[int]

    def length(self, arrays: Arrays) -> int:
        """Measure a request's sequences.

        Args:
            arrays: One per input.

        Returns:
            Their length, before padding.

        Raises:
            InvalidInputError: There is no such axis.
        """
        at = next(iter(self.padding))
        shape: tuple[int, ...] = arrays[at].shape
        if len(shape) <= self.axis:
            raise InvalidInputError(
                f"input {self.names[at]!r}: expected more than {self.axis} dimensions, "
                f"got shape {list(shape)}"
            )
        return shape[self.axis]

    def bucket(self, length: int) -> int:
        """Find the length that a sequence is padded to.

        Args:
            length: Of the sequence.

        Returns:
            The smallest bucket that holds it.

        Raises:
            InvalidInputError: It is longer than every bucket.
        """
        at = bisect_left(self.buckets, length)
        if at == len(self.buckets):
            name = self.names[next(iter(self.padding))]
            raise InvalidInputError(
                f"input {name!r}: a sequence (axis {self.axis}) has at most {self.buckets[-1]} "
                f"elements, got {length}"
            )
        return self.buckets[at]

    def complete(self, found: Mapping[int, Array]) -> Mapping[int, Array]:
        """Add the mask that a caller has left out.

        Args:
            found: Position of an input → what the caller sent.

        Returns:
            The same with a mask of ones, where it was missing and its place is known.
        """
        first = found.get(next(iter(self.padding)))
        if self.mask is None or self.mask in found or first is None or first.ndim <= self.axis:
            return found
        shape = (first.shape[0], first.shape[self.axis])
        return {**found, self.mask: np.ones(shape, self.mask_dtype)}

    def key(self, arrays: Arrays) -> Hashable:
        """Say with whom a request may share a batch.

        Args:
            arrays: One per input.

        Returns:
            Equal for requests that are alike once they are padded.

        Raises:
            InvalidInputError: The sequence is too long, or the inputs differ in length.
        """
        length = self.length(arrays)
        bucket = self.bucket(length)
        parts = []
        for at, array in enumerate(arrays):
            shape = array.shape[1:]
            axis = self.axis_of(at)
            if axis is not None:
                if array.ndim <= axis or array.shape[axis] != length:
                    raise InvalidInputError(
                        f"input {self.names[at]!r}: expected the sequence's length {length} on axis "
                        f"{axis}, got shape {list(array.shape)}"
                    )
                shape = (*shape[: axis - 1], bucket, *shape[axis:])
            parts.append((shape, array.dtype.char))
        return tuple(parts)

    def axis_of(self, at: int) -> int | None:
        """Find the axis of an input that is padded.

        Args:
            at: Position of the input.

        Returns:
            The axis; a mask's is the second. None: the input is not padded.
        """
        if at == self.mask:
            return 1
        return self.axis if at in self.padding else None

    def fill_of(self, at: int) -> Any:
        """Find what an input's padding holds.

        Args:
            at: Position of a padded input.

        Returns:
            The value.
        """
        return 0 if at == self.mask else self.padding[at]


def sequences_of(model: Model, config: ModelConfig) -> Sequences | None:
    """Find a model's sequences.

    Args:
        model: A loaded model.
        config: How it is served.

    Returns:
        Where they are; None when it is not configured, or requests never share a batch.

    Raises:
        StartupError: ``InvalidSettings``: the configuration does not fit the model.
    """
    if config.batching.sequence is None or not model.batched:
        return None
    fills = {tensor.name: tensor.pad_value for tensor in config.inputs}
    return find_sequences(config.batching.sequence, model.inputs, model.outputs, fills)


def find_sequences(
    config: SequenceBatching,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    fills: Mapping[str, Any],
) -> Sequences:
    """Find the tensors that the configuration names.

    Args:
        config: ``batching.sequence``.
        inputs: What the model takes.
        outputs: What the model gives.
        fills: Input's name → what its padding holds, where that is not zero or the empty string.

    Returns:
        Where the sequences are.

    Raises:
        StartupError: ``InvalidSettings``: a tensor is unknown, or has no open axis there.
    """
    known = {spec.name: at for at, spec in enumerate(inputs)}
    padding = {}
    for name in (config.input, *config.also):
        spec = _input(name, known, inputs)
        _require_open(spec, config.axis)
        fill = fills.get(name)
        if fill is None:
            fill = "" if spec.datatype == "BYTES" else 0
        padding[known[name]] = fill.encode() if isinstance(fill, str) else fill
    mask, mask_dtype = None, np.dtype(np.int64)
    if config.mask is not None:
        spec = _input(config.mask, known, inputs)
        _require_open(spec, 1)
        mask_dtype = DTYPES.get(spec.datatype, mask_dtype)
        if mask_dtype.kind == "O":
            raise _invalid(f"mask: {spec.name!r} holds strings, expected numbers")
        mask = known[spec.name]
    open_outputs = frozenset(
        at
        for at, spec in enumerate(outputs)
        if (spec.name in config.outputs if config.outputs is not None else _open(spec, config.axis))
    )
    unknown = set(config.outputs or ()) - {spec.name for spec in outputs}
    if unknown:
        raise _invalid(f"outputs: the model gives no {min(unknown)!r}")
    names = tuple(spec.name for spec in inputs)
    return Sequences(config.axis, config.buckets, names, padding, mask, mask_dtype, open_outputs)


def _input(name: str, known: Mapping[str, int], inputs: Sequence[TensorSpec]) -> TensorSpec:
    if name not in known:
        there = ", ".join(repr(spec.name) for spec in inputs)
        raise _invalid(f"the model takes no input {name!r}; it takes {there}")
    return inputs[known[name]]


def _open(spec: TensorSpec, axis: int) -> bool:
    return spec.shape is None or (len(spec.shape) > axis and spec.shape[axis] == -1)


def _require_open(spec: TensorSpec, axis: int) -> None:
    if not _open(spec, axis):
        raise _invalid(
            f"axis {axis} of {spec.name!r} must be of any size, its shape is {list(spec.shape or ())}"
        )


def _invalid(problem: str) -> StartupError:
    return StartupError(
        Reason.INVALID_SETTINGS,
        f"batching.sequence: {problem}",
        hint="See docs/reference/model-yaml.md for every key.",
    )
