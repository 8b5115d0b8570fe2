"""How the batcher's items, which are the tensors of requests, are run, cut and joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelyard_runtime.errors import InferenceError, OutOfMemoryError, RequestError
from modelyard_runtime.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelyard_runtime.engine.protocol import Arrays, Model


class ModelCalls:
    """Tells the batcher how a model's requests are run, cut and joined.

    Args:
        model: The model to run.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

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
            return self._run(items)
        except Exception as error:
            if is_out_of_memory(error) and not isinstance(error, RequestError):
                raise OutOfMemoryError("the model ran out of memory") from error
            raise

    def _run(self, items: Sequence[Arrays]) -> Sequence[Arrays]:
        if len(items) == 1:
            return [self._model.predict(items[0])]
        merged = tuple(np.concatenate(column) for column in zip(*items, strict=True))
        outputs = self._model.predict(merged)
        ends = np.cumsum([item[0].shape[0] for item in items]).tolist()
        for output in outputs:
            if output.ndim == 0 or output.shape[0] != ends[-1]:
                raise InferenceError(
                    f"the model answered {ends[-1]} rows with shape {list(output.shape)}"
                )
        starts = [0, *ends[:-1]]
        return [
            tuple(output[start:end] for output in outputs)
            for start, end in zip(starts, ends, strict=True)
        ]

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
