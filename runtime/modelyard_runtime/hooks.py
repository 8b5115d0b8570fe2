"""Runs a handler's hooks: plain functions in threads of their own, asynchronous ones on the loop.

Knows no wire format: requests come as arrays and leave as arrays.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from modelyard_runtime.engine.protocol import TensorSpec
from modelyard_runtime.errors import InferenceError, RequestError
from modelyard_runtime.handler import Request, unwrapped
from modelyard_runtime.tensors import datatype_of
from modelyard_runtime.values import ValueMismatchError, as_arrays, as_named

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence

    from modelyard_runtime.config import ModelConfig
    from modelyard_runtime.engine.protocol import Array, Arrays, Model
    from modelyard_runtime.handler import Context

_log = structlog.stdlib.get_logger(__name__)

_THREADS: Final = 4
_END: Final = object()


class Asked(Protocol):
    """A decoded request; ``inference.Question`` is one."""

    @property
    def request_id(self) -> str | None:
        """The caller's ``id``."""

    @property
    def arrays(self) -> Arrays:
        """One per input of ``Hooks.inputs``."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The request's parameters."""


class Hooks:
    """The hooks around one model.

    A model without hooks has them too: they then do nothing, and say so.

    Args:
        found: Name → function, as ``Handler.hooks`` gave them.
        context: What the functions are given.
        model: What they are around.
        declared: What callers send and get, where it is not what the model takes and gives: inputs
            when there is a ``preprocess``, outputs when there is a ``postprocess``.
        on_close: Called when the model goes.
    """

    def __init__(
        self,
        found: Mapping[str, Callable[..., Any]],
        context: Context,
        model: Model,
        declared: tuple[Sequence[TensorSpec], Sequence[TensorSpec]] = ((), ()),
        *,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._found = dict(found)
        self._context = context
        self._model = model
        inputs, outputs = declared
        self._inputs = tuple(inputs) if "preprocess" in found else ()
        self._outputs = tuple(outputs) if "postprocess" in found else ()
        self._threads = _HookThreads(_THREADS)
        self._on_close = on_close

    @property
    def model(self) -> Model:
        """What they are around."""
        return self._model

    @property
    def config(self) -> ModelConfig:
        """How the model is served."""
        return self._context.config

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What callers send."""
        return self._inputs or self._model.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What callers get."""
        return self._outputs or self._model.outputs

    @property
    def preprocesses(self) -> bool:
        """Whether ``preprocess`` must be called."""
        return "preprocess" in self._found

    @property
    def postprocesses(self) -> bool:
        """Whether ``postprocess`` must be called."""
        return "postprocess" in self._found

    @property
    def streams(self) -> bool:
        """Whether the model can answer in parts."""
        return "stream" in self._found

    async def preprocess(self, asked: Asked) -> Arrays:
        """Turn what a caller sent into what the model takes.

        Args:
            asked: The request.

        Returns:
            One array per input of the model.

        Raises:
            RequestError: What the hook raised; ``InferenceError`` for everything else.
        """
        request = self._request(asked)
        answer = await self._call("preprocess", request)
        if answer is None or answer is request:
            answer = request.inputs
        return self._checked("preprocess", answer, self._model.inputs)

    async def postprocess(self, outputs: Arrays) -> Arrays:
        """Turn what the model gave into what the caller gets.

        Args:
            outputs: One per output of the model.

        Returns:
            One array per output of ``outputs``.

        Raises:
            RequestError: As ``preprocess``.
        """
        named = as_named(outputs, self._model.outputs)
        answer = await self._call("postprocess", named)
        return self._checked("postprocess", named if answer is None else answer, self.outputs)

    async def stream(self, asked: Asked) -> AsyncGenerator[dict[str, Array]]:
        """Answer in parts.

        Args:
            asked: The request.

        Yields:
            Name → array of each part; a part that is one value is called like the first output.

        Raises:
            RequestError: As ``preprocess``.
        """
        request = self._request(asked)
        parts = self._parts(request)
        try:
            async for part in parts:
                yield self._part(part)
        except RequestError:
            raise
        except Exception as error:
            raise self._failed("stream", error) from error
        finally:
            await parts.aclose()

    def learn_outputs(self, outputs: Arrays) -> None:
        """Find out what ``postprocess`` gives, where nobody has declared it.

        Args:
            outputs: A real answer of the model.
        """
        hook = self._found.get("postprocess")
        if hook is None or self._outputs:
            return
        try:
            answer = hook(as_named(outputs, self._model.outputs), self._context)
            if inspect.isawaitable(answer):
                answer = asyncio.run(_awaited(answer))
            self._outputs = _learnt(answer, outputs, self._model)
        except Exception as error:  # noqa: BLE001 - a made-up answer may be refused
            _log.warning("postprocess refuses a made-up answer", problem=str(error)[:300])

    def close(self) -> None:
        """Let the threads and the handler go."""
        self._threads.close()
        self._on_close()

    def _request(self, asked: Asked) -> Request:
        named = as_named(asked.arrays, self.inputs)
        return Request(named, asked.parameters, asked.request_id)

    async def _call(self, name: str, given: object) -> Any:
        hook = self._found[name]
        try:
            if inspect.iscoroutinefunction(unwrapped(hook)):
                return await hook(given, self._context)
            return await self._threads.run(hook, given, self._context)
        except RequestError:
            raise
        except Exception as error:
            raise self._failed(name, error) from error

    async def _parts(self, request: Request) -> AsyncGenerator[Any]:
        hook = self._found["stream"]
        own = unwrapped(hook)
        if inspect.isasyncgenfunction(own) or inspect.iscoroutinefunction(own):
            parts = hook(request, self._context)
            if inspect.isawaitable(parts):
                parts = await parts
            try:
                async for part in parts:
                    yield part
            finally:
                await parts.aclose()
            return
        steps = _Steps(await self._threads.run(hook, request, self._context))
        try:
            while (part := await self._threads.run(steps.next)) is not _END:
                yield part
        finally:
            self._threads.later(steps.close)

    def _part(self, part: object) -> dict[str, Array]:
        specs = self.outputs
        try:
            if isinstance(part, dict):
                return as_named(as_arrays(part, tuple(_open(name) for name in part)), part)
            name = specs[0].name if specs else "output"
            return {name: as_arrays(part, (_open(name),))[0]}
        except ValueMismatchError as error:
            raise self._failed("stream", error) from error

    def _checked(self, name: str, answer: object, specs: Sequence[TensorSpec]) -> Arrays:
        try:
            return as_arrays(answer, specs)
        except ValueMismatchError as error:
            raise self._failed(name, error) from error

    @staticmethod
    def _failed(name: str, error: Exception) -> InferenceError:
        _log.error("a hook failed", hook=name, exc_info=error)
        return InferenceError(f"the handler's {name} failed")


async def _awaited(answer: Any) -> Any:
    return await answer


def _open(name: str) -> TensorSpec:
    return TensorSpec(name, "ANY", None)


def _learnt(answer: object, outputs: Arrays, model: Model) -> tuple[TensorSpec, ...]:
    if answer is None:
        return ()
    if not isinstance(answer, dict):
        as_arrays(answer, model.outputs)
        return ()
    arrays = as_arrays(answer, tuple(_open(str(name)) for name in answer))
    rows = outputs[0].shape[:1]
    return tuple(
        TensorSpec(str(name), datatype_of(array), _shape(array, rows, batched=model.batched))
        for name, array in zip(answer, arrays, strict=True)
    )


def _shape(array: Array, rows: tuple[int, ...], *, batched: bool) -> tuple[int, ...]:
    if batched and array.shape[:1] == rows:
        return (-1, *array.shape[1:])
    return tuple(array.shape)


class _Steps:
    """A generator whose steps run in one thread or another; one that runs is not closed under way."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        self._iterator = iter(iterable)
        self._lock = threading.Lock()

    def next(self) -> Any:
        with self._lock:
            return next(self._iterator, _END)

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            with self._lock:
                close()


class _HookThreads:
    """A few daemon threads, started when they are first needed.

    An executor's threads are joined when the interpreter ends, so a hook that hangs would keep the
    process from leaving.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle = threading.Semaphore(0)
        self._started = 0
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def settle(outcome: Any, error: BaseException | None) -> None:
            if done.done():
                return  # nobody waits any more
            if error is None:
                done.set_result(outcome)
            else:
                done.set_exception(error)

        def work() -> None:
            outcome, failure = None, None
            if done.done():
                return  # its caller has gone, or its deadline has passed
            try:
                outcome = context.run(function, *arguments)
            except BaseException as error:  # noqa: BLE001 - the thread's root; told to the waiter
                failure = _telling(error)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, outcome, failure)

        self.later(work)
        return await done

    def later(self, work: Callable[[], Any]) -> None:
        """Run something whose outcome nobody waits for."""
        self._work.put(work)
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            threading.Thread(target=self._loop, name="hooks", daemon=True).start()

    def close(self) -> None:
        for _ in range(self._started):
            self._work.put(None)

    def _loop(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - a generator's clean-up
                _log.error("a hook failed while it was closed", exc_info=error)
            self._idle.release()


def _telling(error: BaseException) -> BaseException:
    """StopIteration cannot be set on a future."""
    return (
        RuntimeError("a hook raised StopIteration") if isinstance(error, StopIteration) else error
    )
