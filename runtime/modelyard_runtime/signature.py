"""What a model takes and gives, and the check of a request against it, whatever its wire format.

Every size is checked in Python's integers, which do not overflow, before anything is allocated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelyard_runtime.engine.protocol import ANY, DTYPES
from modelyard_runtime.errors import InvalidInputError, MalformedRequestError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from modelyard_runtime.engine.protocol import Array, Arrays, TensorSpec
    from modelyard_runtime.sequences import Sequences

_MAX_RANK: Final = 32
_MAX_ELEMENTS: Final = 2**62


class Signature:
    """The tensors of one model, by name and by position.

    Args:
        inputs: What it takes.
        outputs: What it gives.
        batched: Whether the first axis of the inputs counts rows that do not depend on one another.
        answers_rows: Whether the first axis of the outputs counts rows; None: as for the inputs.
        sequences: Where its sequences are; None: requests of different lengths never meet.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        batched: bool,
        answers_rows: bool | None = None,
        sequences: Sequences | None = None,
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.batched = batched
        self.answers_rows = batched if answers_rows is None else answers_rows
        self._sequences = sequences
        self._inputs = {spec.name: (at, spec) for at, spec in enumerate(self.inputs)}
        self._outputs = {spec.name: at for at, spec in enumerate(self.outputs)}
        self.all_outputs = tuple(range(len(self.outputs)))

    def input(self, name: object, taken: Mapping[int, Any]) -> tuple[int, TensorSpec]:
        """Find the input that a request names.

        Args:
            name: As the caller wrote it.
            taken: Positions that the request has filled already.

        Returns:
            Its position and its declaration.

        Raises:
            MalformedRequestError: ``name`` is no string.
            InvalidInputError: The model takes no such input, or it is given twice.
        """
        if type(name) is not str:
            raise MalformedRequestError("an input must be an object with a 'name'")
        known = self._inputs.get(name)
        if known is None:
            raise InvalidInputError(
                f"unknown input {name[:80]!r}; the model takes {_listed(self.inputs)}"
            )
        if known[0] in taken:
            raise InvalidInputError(f"input {name!r} is given twice")
        return known

    def output(self, name: object, taken: Sequence[int]) -> int:
        """Find the output that a request asks for.

        Args:
            name: As the caller wrote it.
            taken: Positions that the request asks for already.

        Returns:
            Its position.

        Raises:
            MalformedRequestError: ``name`` is no string.
            InvalidInputError: The model gives no such output, or it is asked for twice.
        """
        if type(name) is not str:
            raise MalformedRequestError("a requested output must be an object with a 'name'")
        at = self._outputs.get(name)
        if at is None:
            raise InvalidInputError(
                f"unknown output {name[:80]!r}; the model gives {_listed(self.outputs)}"
            )
        if at in taken:
            raise InvalidInputError(f"output {name!r} is requested twice")
        return at

    def assemble(self, found: Mapping[int, Any]) -> Arrays:
        """Put the tensors of a request in the declared order.

        Args:
            found: Position → array.

        Returns:
            One array per declared input; a mask and optional inputs that are missing are filled.

        Raises:
            InvalidInputError: An input is missing.
        """
        if len(found) != len(self.inputs) and self._sequences is not None:
            found = self._sequences.complete(found)
        if len(found) != len(self.inputs):
            missing = [(at, spec) for at, spec in enumerate(self.inputs) if at not in found]
            required = [spec for _, spec in missing if spec.fill is None]
            if required or not found:
                raise InvalidInputError(f"missing input: {_listed(required or self.inputs)}")
            first = next(iter(found.values()))
            rows = first.shape[0] if first.ndim else 1
            found = {**found, **{at: _filled(spec, rows) for at, spec in missing}}
        return tuple(found[at] for at in range(len(found)))

    def rows(self, arrays: Arrays) -> int:
        """Count the rows of a request.

        Args:
            arrays: One per declared input.

        Returns:
            The size of the first axis; 1 for models that are not batched.

        Raises:
            InvalidInputError: The inputs disagree, or there are no rows.
        """
        if not self.batched:
            return 1
        rows = -1
        for array, spec in zip(arrays, self.inputs, strict=True):
            if not array.ndim:
                raise InvalidInputError(f"input {spec.name!r} is a scalar, the model takes rows")
            if rows == -1:
                rows = array.shape[0]
            elif array.shape[0] != rows:
                raise InvalidInputError(
                    f"input {spec.name!r} has {array.shape[0]} rows, "
                    f"{self.inputs[0].name!r} has {rows}"
                )
        if rows == 0:
            raise InvalidInputError(f"input {self.inputs[0].name!r} has no rows")
        return rows

    def key(self, arrays: Arrays) -> Hashable:
        """Say with whom a request may share a batch.

        Shapes and datatypes are all that matters: a request's parameters reach the hooks around the
        model, which are run for each request by itself, and never the model.

        Args:
            arrays: One per declared input.

        Returns:
            Equal for requests whose arrays can be put end to end, once they are padded; None where
            nothing is batched.

        Raises:
            InvalidInputError: A sequence is longer than the model takes.
        """
        if not self.batched:
            return None
        if self._sequences is not None:
            return self._sequences.key(arrays)
        return tuple([(array.shape[1:], array.dtype.char) for array in arrays])


def _filled(spec: TensorSpec, rows: int) -> Array:
    shape = [rows if size == -1 else size for size in spec.shape or ()]
    fill = spec.fill.encode() if isinstance(spec.fill, str) else spec.fill
    return np.full(shape, fill, DTYPES[spec.datatype])


def checked_dtype(given: object, spec: TensorSpec) -> np.dtype[Any]:
    """Check the datatype that a caller states.

    Args:
        given: As the caller wrote it.
        spec: The declared input.

    Returns:
        The dtype in which the caller's data is to be read.

    Raises:
        InvalidInputError: The protocol has no such datatype, or the model takes another one.
    """
    dtype = DTYPES.get(given) if isinstance(given, str) else None
    declared = spec.datatype
    if dtype is None:
        known = ", ".join(DTYPES)
        raise InvalidInputError(
            f"input {spec.name!r}: datatype must be one of {known}, got {str(given)[:40]!r}"
        )
    if declared in {given, ANY} or (spec.casts and dtype.kind in "iuf"):
        return dtype
    raise InvalidInputError(f"input {spec.name!r}: expected datatype {declared}, got {given}")


def checked_shape(given: object, spec: TensorSpec) -> tuple[tuple[int, ...], int]:
    """Check the shape that a caller states.

    Args:
        given: As the caller wrote it; a list of sizes.
        spec: The declared input.

    Returns:
        The shape, and how many elements it holds.

    Raises:
        InvalidInputError: It is no list of sizes, too large, or not what the model takes.
    """
    if type(given) is not list or len(given) > _MAX_RANK:
        raise InvalidInputError(f"input {spec.name!r}: 'shape' must be an array of sizes")
    elements = 1
    for size in given:
        if type(size) is not int or size < 0:
            raise InvalidInputError(
                f"input {spec.name!r}: a size in 'shape' must be an integer of at least 0, "
                f"got {str(size)[:40]}"
            )
        elements *= size
    if elements > _MAX_ELEMENTS:
        raise InvalidInputError(f"input {spec.name!r}: 'shape' holds {elements} values")
    shape = tuple(given)
    declared = spec.shape
    if declared is not None and shape != declared:
        if len(shape) != len(declared):
            raise InvalidInputError(
                f"input {spec.name!r}: expected {len(declared)} dimensions {list(declared)}, "
                f"got {len(shape)} {given}"
            )
        for got, want in zip(shape, declared, strict=True):
            if want not in {-1, got}:
                raise InvalidInputError(
                    f"input {spec.name!r}: expected shape {list(declared)}, got {given}"
                )
    return shape, elements


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in specs) or "nothing"
