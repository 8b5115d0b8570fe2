"""How the batcher's items, which are the tensors of requests, are run, cut and joined."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from modelyard_runtime.errors import InferenceError, OutOfMemoryError, RequestError
from modelyard_runtime.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelyard_runtime.engine.protocol import Array, Arrays, Model
    from modelyard_runtime.sequences import Sequences


class ModelCalls:
    """Tells the batcher how a model's requests are run, cut and joined.

    A batch is padded to the next of ``buckets`` by repeating its last row: unlike zeros, a real row is
    always something that the model takes. Sequences are padded as ``Sequences`` says. What was padded
    is cut off from the answers.

    Args:
        model: The model to run.
        buckets: Numbers of rows, ascending, that the model is run with; empty: any number.
        sequences: Where the model's sequences are; None: all requests of a batch are of one shape.
        on_padded: Told the share of padding of every batch of a model that pads; called from where
            batches run.
    """

    def __init__(
        self,
        model: Model,
        *,
        buckets: tuple[int, ...] = (),
        sequences: Sequences | None = None,
        on_padded: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._model = model
        self._buckets = buckets
        self._sequences = sequences
        self._on_padded = on_padded

    def run(self, items: Sequence[Arrays]) -> Sequence[Arrays]:
        """Run requests of equal inner shapes as one forward pass.

        Args:
            items: Inputs of each request, ``(rows, …)`` each.

        Returns:
            Outputs of each request.

        Raises:
            OutOfMemoryError: The model, or putting the requests together, took too much memory.
            InferenceError: An output's first axis does not count the rows that went in.
        """
        try:
            if self._buckets or self._sequences is not None:
                return self._run_padded(items)
            if len(items) == 1:
                return [self._model.predict(items[0])]
            ends = list(accumulate(item[0].shape[0] for item in items))
            merged = tuple(np.concatenate(column) for column in zip(*items, strict=True))
            return _parts(self._predict(merged, ends[-1]), ends)
        except Exception as error:
            if is_out_of_memory(error) and not isinstance(error, RequestError):
                raise OutOfMemoryError("the model ran out of memory") from error
            raise

    @staticmethod
    def cut(item: Arrays, start: int, stop: int) -> Arrays:
        """Return some rows of a request.

        Args:
            item: Inputs, ``(rows, …)`` each.
            start: First row.
            stop: Row after the last one.

        Returns:
            Inputs, ``(stop - start, …)`` each.
        """
        return tuple(array[start:stop] for array in item)

    @staticmethod
    def join(answers: Sequence[Arrays]) -> Arrays:
        """Put the outputs of a cut request together.

        Args:
            answers: Outputs of each cut, in order.

        Returns:
            Outputs, ``(rows, …)`` each.
        """
        return tuple(np.concatenate(column) for column in zip(*answers, strict=True))

    def _predict(self, inputs: Arrays, rows: int) -> Arrays:
        outputs = self._model.predict(inputs)
        for output in outputs:
            if output.ndim == 0 or output.shape[0] != rows:
                raise InferenceError(
                    f"the model answered {rows} rows with shape {list(output.shape)}"
                )
        return outputs

    def _run_padded(self, items: Sequence[Arrays]) -> Sequence[Arrays]:
        sequences = self._sequences
        ends = list(accumulate(item[0].shape[0] for item in items))
        rows = ends[-1]
        at = bisect_left(self._buckets, rows)
        total = self._buckets[at] if at < len(self._buckets) else rows
        lengths = [1] * len(items) if sequences is None else [*map(sequences.length, items)]
        longest = 1 if sequences is None else sequences.bucket(max(lengths))
        columns = enumerate(zip(*items, strict=True))
        merged = tuple(self._merged(column, total, longest, at) for at, column in columns)
        answers = _parts(self._predict(merged, total), ends)
        real = sum(length * item[0].shape[0] for length, item in zip(lengths, items, strict=True))
        self._on_padded(1 - real / (total * longest))
        if sequences is None:
            return answers
        return [
            tuple(
                _shortened(array, sequences.axis, longest, length)
                if at in sequences.outputs
                else array
                for at, array in enumerate(answer)
            )
            for answer, length in zip(answers, lengths, strict=True)
        ]

    def _merged(self, column: tuple[Array, ...], total: int, longest: int, at: int) -> Array:
        """Put one input of all requests into one array, padded."""
        sequences = self._sequences
        axis = None if sequences is None else sequences.axis_of(at)
        first = column[0]
        shape = [total, *first.shape[1:]]
        if sequences is not None and axis is not None:
            shape[axis] = longest
            merged = np.full(shape, sequences.fill_of(at), first.dtype)
        elif len(column) == 1 and first.shape[0] == total:
            return first
        else:
            merged = np.empty(shape, first.dtype)
        row = 0
        for array in column:
            place = merged[row : row + array.shape[0]]
            if axis is not None:
                place = place[_up_to(array.shape[axis], axis)]
            place[...] = array
            row += array.shape[0]
        merged[row:] = merged[row - 1]
        return merged


def _parts(outputs: Arrays, ends: list[int]) -> list[Arrays]:
    starts = [0, *ends[:-1]]
    return [
        tuple(output[start:end] for output in outputs)
        for start, end in zip(starts, ends, strict=True)
    ]


def _shortened(array: Array, axis: int, longest: int, length: int) -> Array:
    if array.ndim > axis and array.shape[axis] == longest:
        return np.ascontiguousarray(array[_up_to(length, axis)])
    return array


def _up_to(length: int, axis: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(length))
