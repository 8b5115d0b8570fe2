"""A model that serves: questions in, arrays out, whatever the wire format."""

from __future__ import annotations

import asyncio
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from modelyard_runtime.engine.protocol import ANY
from modelyard_runtime.signature import Signature
from modelyard_runtime.tensors import datatype_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from modelyard_runtime.batching import Batcher
    from modelyard_runtime.call import Call
    from modelyard_runtime.engine.protocol import Arrays, Model, TensorSpec
    from modelyard_runtime.model_metrics import ModelMetrics


class Question(NamedTuple):
    """One decoded inference request.

    Attributes:
        request_id: The protocol's ``id``; None when the caller sent none.
        arrays: One per declared input.
        outputs: Positions of the outputs to answer, in the caller's order.
        key: Requests of equal key may share a batch.
        rows: Size of the first axis for batched models, else 1.
        parameters: The request's parameters, as the caller wrote them.
    """

    request_id: str | None
    arrays: Arrays
    outputs: tuple[int, ...]
    key: Hashable
    rows: int
    parameters: Mapping[str, Any] = MappingProxyType({})

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(array.nbytes for array in self.arrays)


class ServedModel:
    """A ready model and its queue.

    It is a context manager: whoever works with it holds it, and a model that has been replaced or
    unloaded goes only when nobody holds it any more.

    Args:
        name: The served name.
        version: The version in the repository.
        model: The model.
        batcher: Its queue.
        metrics: Where its series are.
    """

    def __init__(
        self,
        name: str,
        version: str,
        model: Model,
        batcher: Batcher[Arrays, Arrays],
        metrics: ModelMetrics,
    ) -> None:
        self.name = name
        self.version = version
        self.model = model
        self.batcher = batcher
        self.metrics = metrics
        self.load_seconds = 0.0
        self.signature = Signature(model.inputs, model.outputs, batched=model.batched)
        self._holders = 0
        self._free = asyncio.Event()
        self._free.set()

    def __enter__(self) -> Self:
        self._holders += 1
        self._free.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._holders -= 1
        if not self._holders:
            self._free.set()

    async def answer(self, question: Question, call: Call) -> Arrays:
        """Answer one question.

        Args:
            question: What the model is asked.
            call: The request that asks.

        Returns:
            One array per declared output.

        Raises:
            RequestError: See the tree in ``errors.py``.
        """
        call.rows = question.rows
        begun = time.perf_counter()
        try:
            return await self.batcher.submit(
                question.arrays, key=question.key, rows=question.rows, deadline=call.deadline
            )
        finally:
            call.wait_s = time.perf_counter() - begun

    async def retire(self) -> None:
        """Wait until nobody holds the model, then let it go."""
        await self._free.wait()
        self.close()

    def close(self) -> None:
        """Stop the queue and free the model, whoever holds it."""
        self.batcher.close()
        self.model.close()

    def metadata(self) -> dict[str, Any]:
        """Describe the model in the protocol's words.

        Returns:
            ``name``, ``versions``, ``platform``, ``inputs`` and ``outputs``.

        References:
            Open Inference Protocol, HTTP/REST, "Model Metadata".
        """
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": self.model.platform,
            "inputs": [spec.as_document() for spec in self.model.inputs],
            "outputs": [spec.as_document() for spec in self.model.outputs],
        }

    def status(self) -> dict[str, Any]:
        """Describe the model for ``GET /status``.

        Returns:
            An element of the contract's ``models``.
        """
        return {
            "name": self.name,
            "version": self.version,
            "format": self.model.format,
            "device": self.model.device,
            "loadSeconds": round(self.load_seconds, 3),
            "batched": self.model.batched,
            "inputs": [spec.as_document() for spec in self.model.inputs],
            "outputs": [spec.as_document() for spec in self.model.outputs],
        }


def declared_outputs(specs: Sequence[TensorSpec], outputs: Arrays) -> tuple[TensorSpec, ...]:
    """Fill in the datatypes that an artifact left open, from a real answer.

    Args:
        specs: The declared outputs.
        outputs: What the model gave.

    Returns:
        The outputs, with no ``ANY`` left.
    """
    cls = type(specs[0])
    return tuple(
        cls(spec.name, datatype_of(array), spec.shape) if spec.datatype == ANY else spec
        for spec, array in zip(specs, outputs, strict=True)
    )
