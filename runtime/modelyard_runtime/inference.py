"""A model that serves: questions in, arrays out, whatever the wire format."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from modelyard_runtime.engine.protocol import ANY
from modelyard_runtime.errors import (
    DeadlineExceededError,
    InferenceError,
    InvalidInputError,
    TooLargeError,
)
from modelyard_runtime.response_cache import ResponseCache, question_key
from modelyard_runtime.sequences import sequences_of
from modelyard_runtime.signature import Signature
from modelyard_runtime.tensors import datatype_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Hashable, Mapping, Sequence

    from modelyard_runtime.batching.batcher import Batcher
    from modelyard_runtime.call import Call
    from modelyard_runtime.engine.protocol import Array, Arrays, TensorSpec
    from modelyard_runtime.hooks import Hooks
    from modelyard_runtime.model_metrics import ModelMetrics
    from modelyard_runtime.model_statistics import Statistics

_T = TypeVar("_T")


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
        return sum(map(_nbytes, self.arrays))


class ServedModel:
    """A ready model and its queue.

    It is a context manager: whoever works with it holds it, and a model that has been replaced or
    unloaded goes only when nobody holds it any more.

    Args:
        name: The served name.
        version: The version in the repository.
        hooks: The model, its configuration, and the hooks around it.
        batcher: Its queue.
        statistics: What it has done.
        metrics: Where its series are.
    """

    def __init__(
        self,
        name: str,
        version: str,
        hooks: Hooks,
        batcher: Batcher[Arrays, Arrays],
        statistics: Statistics,
        metrics: ModelMetrics,
    ) -> None:
        self.name = name
        self.version = version
        self.hooks = hooks
        self.model = model = hooks.model
        self.batcher = batcher
        self.metrics = metrics
        self.load_seconds = 0.0
        self.digest = hooks.config.digest
        self.timeout_s = hooks.config.queue.default_timeout_ms / 1000
        """Deadline of a request whose caller states none, or a later one."""
        sequences = sequences_of(model, hooks.config)
        self.signature = Signature(
            hooks.inputs,
            hooks.outputs,
            batched=model.batched and not hooks.preprocesses,
            answers_rows=model.batched,
            sequences=None if hooks.preprocesses else sequences,
        )
        """What callers send and get."""
        self._taken = Signature(
            model.inputs, model.outputs, batched=model.batched, sequences=sequences
        )
        self.statistics = statistics
        cache = hooks.config.cache
        self._cache: ResponseCache | None = None
        if cache.enabled:
            self._cache = kept = ResponseCache(cache.ttl_s, cache.max_bytes)
            metrics.follow("cache_bytes", lambda: kept.nbytes)
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
        self._require_small(question)
        call.rows, call.question = question.rows, question
        call.asked = begun = time.perf_counter()
        try:
            if self._cache is None:
                outputs = await self._compute(question, call)
            else:
                outputs = await self._recall(self._cache, question, call)
            call.outputs = outputs
        finally:
            call.wait_s = time.perf_counter() - begun
        return outputs

    async def stream(self, question: Question, call: Call) -> AsyncGenerator[dict[str, Array]]:
        """Answer one question in parts; a model without the hook ``stream`` answers in one.

        The call's deadline holds for the first part. From then on the stream may last as long as it
        is never silent for longer than ``limits.stream_idle_ms``.

        Args:
            question: What the model is asked.
            call: The request that asks.

        Yields:
            Name → array of each part.

        Raises:
            RequestError: See the tree in ``errors.py``.
        """
        if not self.hooks.streams:
            outputs = await self.answer(question, call)
            self.metrics.first_output(time.perf_counter() - call.started)
            yield {
                spec.name: array
                for spec, array in zip(self.signature.outputs, outputs, strict=True)
            }
            return
        self._require_small(question)
        call.rows, call.question = question.rows, question
        call.asked = begun = time.perf_counter()
        parts = self.hooks.stream(question)
        idle_s = self.hooks.config.limits.stream_idle_ms / 1000
        until, first = call.deadline, True
        try:
            while True:
                try:
                    async with asyncio.timeout_at(min(until, time.monotonic() + idle_s)):
                        part = await anext(parts)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise DeadlineExceededError("the stream was silent for too long") from None
                if first:
                    self.metrics.first_output(time.perf_counter() - call.started)
                until, first = math.inf, False
                yield part
        finally:
            await parts.aclose()
            call.wait_s = time.perf_counter() - begun

    async def _recall(self, cache: ResponseCache, question: Question, call: Call) -> Arrays:
        """Compute only what is not known already."""
        begun = time.perf_counter()
        asked = cache.answer(question_key(question), lambda: self._compute(question, call))
        outputs, call.cached = await _in_time(asked, call, "while the answer was computed")
        self.metrics.cached(hit=call.cached)
        self.statistics.cached(hit=call.cached, seconds=time.perf_counter() - begun)
        return outputs

    async def _compute(self, question: Question, call: Call) -> Arrays:
        hooks = self.hooks
        if hooks.preprocesses:
            arrays = await _in_time(hooks.preprocess(question), call)
            question = self._translated(question, arrays)
            call.rows = question.rows
        outputs = await self.batcher.submit(
            question.arrays,
            key=question.key,
            rows=question.rows,
            deadline=call.deadline,
            priority=call.priority,
            nbytes=question.nbytes,
        )
        return await _in_time(hooks.postprocess(outputs), call) if hooks.postprocesses else outputs

    def _require_small(self, question: Question) -> None:
        most = self.hooks.config.limits.max_elements
        if most is not None:
            elements = sum(array.size for array in question.arrays)
            if elements > most:
                raise TooLargeError(
                    f"the request holds {elements} values, the model takes {most} at once"
                )

    def _translated(self, question: Question, arrays: Arrays) -> Question:
        """Put what ``preprocess`` gave in the place of what the caller sent."""
        try:
            rows = self._taken.rows(arrays)
        except InvalidInputError as error:  # the handler's mistake, not the caller's
            raise InferenceError(f"the handler's preprocess failed: {error}") from error
        return question._replace(arrays=arrays, rows=rows, key=self._taken.key(arrays))

    async def retire(self) -> None:
        """Wait until nobody holds the model, then let it go."""
        await self._free.wait()
        self.close()

    def close(self) -> None:
        """Stop the queue and free the model, whoever holds it."""
        self.batcher.close()
        self.hooks.close()
        self.model.close()
        self.metrics.close()

    def metadata(self, versions: Sequence[str] = ()) -> dict[str, Any]:
        """Describe the model in the protocol's words.

        Args:
            versions: All that answer under its name; empty: this one.

        Returns:
            ``name``, ``versions``, ``platform``, ``inputs`` and ``outputs``.

        References:
            Open Inference Protocol, HTTP/REST, "Model Metadata".
        """
        return {
            "name": self.name,
            "versions": list(versions) or [self.version],
            "platform": self.model.platform,
            "inputs": [spec.as_document() for spec in self.signature.inputs],
            "outputs": [spec.as_document() for spec in self.signature.outputs],
        }

    def config(self) -> dict[str, Any]:
        """Describe how the model is set up.

        Returns:
            The fields of Triton's model configuration that have a meaning here. Where requests are
            batched, ``dims`` leave the first axis out.

        References:
            Triton, "Model Configuration Extension".
        """
        model, limits, signature = self.model, self.batcher.limits, self.signature
        skip = 1 if signature.batched else 0
        document = {
            "name": self.name,
            "platform": model.platform,
            "backend": model.format.lower(),
            "max_batch_size": limits.max_rows if signature.batched else 0,
            "input": [_config_tensor(spec, skip) for spec in signature.inputs],
            "output": [_config_tensor(spec, skip) for spec in signature.outputs],
            "instance_group": [
                {"kind": "KIND_GPU" if model.device == "cuda" else "KIND_CPU", "count": 1}
            ],
        }
        if self.hooks.streams:
            document["model_transaction_policy"] = {"decoupled": True}
        if signature.batched:
            wait = round(limits.max_delay_s * 1e6)
            document["dynamic_batching"] = {"max_queue_delay_microseconds": wait}
        return document

    def statistics_document(self) -> dict[str, Any]:
        """Tell what the model has done.

        Returns:
            An element of the statistics extension's ``model_stats``.
        """
        return self.statistics.document(self.name, self.version)

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
            "optimizations": {
                "chosen": self.model.optimization.chosen,
                "gain": self.model.optimization.gain,
            },
            "inputs": [spec.as_document() for spec in self.signature.inputs],
            "outputs": [spec.as_document() for spec in self.signature.outputs],
        }


def _nbytes(array: Array) -> int:
    if array.dtype.kind == "O":  # an array of strings holds pointers only
        return array.nbytes + sum(map(len, array.reshape(-1).tolist()))
    return array.nbytes


async def _in_time(
    work: Coroutine[Any, Any, _T], call: Call, where: str = "in the model's handler"
) -> _T:
    try:
        async with asyncio.timeout_at(call.deadline):
            return await work
    except TimeoutError:  # the hooks' own never come through
        raise DeadlineExceededError(f"the deadline passed {where}") from None


def _config_tensor(spec: TensorSpec, skip: int) -> dict[str, Any]:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    dims = [-1] if spec.shape is None else list(spec.shape[skip:])
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": dims}


def declared_outputs(specs: Sequence[TensorSpec], outputs: Arrays) -> tuple[TensorSpec, ...]:
    """Fill in the datatypes that an artifact left open, from a real answer.

    Args:
        specs: The declared outputs.
        outputs: What the model gave.

    Returns:
        The outputs, with no ``ANY`` left.
    """
    return tuple(
        replace(spec, datatype=datatype_of(array)) if spec.datatype == ANY else spec
        for spec, array in zip(specs, outputs, strict=True)
    )
