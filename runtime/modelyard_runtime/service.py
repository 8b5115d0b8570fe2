"""The process as the HTTP edge sees it: its state, its model, its limits."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

from modelyard_runtime.batch_calls import BatchLimits
from modelyard_runtime.batching import Batcher
from modelyard_runtime.compute import compute_threads
from modelyard_runtime.directives import DirectivesFile
from modelyard_runtime.errors import NotFoundError, NotReadyError, Reason, StartupError
from modelyard_runtime.inference import ModelCalls, ServedModel, declared_outputs
from modelyard_runtime.lifecycle import Lifecycle, State
from modelyard_runtime.loading import find_artifact, load_model
from modelyard_runtime.metrics import RuntimeMetrics
from modelyard_runtime.warming import Warmth, warm

if TYPE_CHECKING:
    from modelyard_runtime.engine.protocol import Arrays, Model
    from modelyard_runtime.settings import RuntimeSettings

_log = structlog.stdlib.get_logger(__name__)

INLINE_FORWARD_S: Final = 0.0005
"""A full batch shorter than this runs on the event loop: handing it to a thread costs as much."""
_SWITCH_INTERVAL_S: Final = 1e-4
"""Python's default of 5 ms lets a busy event loop hold up each step of the engine thread."""


class Service:
    """Everything that lives as long as the process.

    Args:
        settings: The environment.
    """

    def __init__(self, settings: RuntimeSettings) -> None:
        self.settings = settings
        self.lifecycle = Lifecycle()
        self.metrics = RuntimeMetrics(settings)
        self.metrics.entered(State.STARTING, None)
        self.directives = DirectivesFile(settings.directives_file, self.metrics)
        self.inflight = 0
        self._served: ServedModel | None = None
        self._load_seconds = 0.0
        self.metrics.follow(
            inflight=lambda: self.inflight,
            queued=lambda: self._served.batcher.queued if self._served else 0,
        )

    @property
    def ready(self) -> bool:
        """Whether new traffic should come here."""
        return self.lifecycle.state is State.READY

    def model(self, name: str, version: str | None) -> ServedModel:
        """Find the model of a request.

        Args:
            name: As in the path.
            version: As in the path; None takes the one that is served.

        Returns:
            The model. While the process drains it still answers.

        Raises:
            NotFoundError: There is no such model or version.
            NotReadyError: It is there, and not ready.
        """
        served = self._served
        if name != self.settings.model_name:
            raise NotFoundError(f"there is no model {name[:80]!r}")
        if served is None:
            raise NotReadyError(f"model {name!r} is {str(self.lifecycle.state).lower()}")
        if version is not None and version != served.version:
            raise NotFoundError(f"model {name!r} has no version {version[:40]!r}")
        return served

    async def start(self) -> None:
        """Load and warm the model, then turn ready.

        Raises:
            StartupError: The model cannot be served; the state is then ``FAILED``.
        """
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self.directives.poll()
        started = time.perf_counter()
        try:
            try:
                async with asyncio.timeout(self.settings.startup_timeout_s):
                    model, version, warmth = await self._in_thread()
            except TimeoutError:
                raise StartupError(
                    Reason.STARTUP_TIMEOUT,
                    f"not ready within {self.settings.startup_timeout_s:g} s, "
                    f"still {str(self.lifecycle.state).lower()}",
                    hint="Raise spec.runtime.timeouts.startupSeconds, or the CPU request.",
                    retryable=True,
                ) from None
        except StartupError as failure:
            self._enter(State.FAILED, failure)
            raise
        self._load_seconds = time.perf_counter() - started
        self.metrics.loaded(self._load_seconds)
        self._serve(model, version, warmth)
        self._enter(State.READY)

    def drain(self) -> None:
        """Turn unready; requests are still answered."""
        self._enter(State.DRAINING)

    def close(self) -> None:
        """Stop the engine."""
        if self._served is not None:
            self._served.batcher.close()

    def status(self) -> dict[str, Any]:
        """Describe the process for ``GET /status``.

        Returns:
            The document of the contract.
        """
        settings, served, failure = self.settings, self._served, self.lifecycle.failure
        models: list[dict[str, Any]] = []
        if served is not None:
            models.append(
                {
                    "name": served.name,
                    "version": served.version,
                    "format": served.model.format,
                    "device": served.model.device,
                    "loadSeconds": round(self._load_seconds, 3),
                    "batched": served.model.batched,
                    "inputs": [spec.as_document() for spec in served.model.inputs],
                    "outputs": [spec.as_document() for spec in served.model.outputs],
                }
            )
        return {
            "state": str(self.lifecycle.state),
            "model": settings.model_name,
            "version": settings.model_version,
            "revision": settings.revision,
            "directivesHash": self.directives.hash,
            "download": None,
            "failure": failure.as_document() if failure else None,
            "models": models,
        }

    def _enter(self, state: State, failure: StartupError | None = None) -> None:
        previous = self.lifecycle.state
        if failure is not None:
            self.lifecycle.fail(failure)
        else:
            self.lifecycle.advance(state)
        if self.lifecycle.state is not previous:
            self.metrics.entered(self.lifecycle.state, previous)

    def _serve(self, model: Model, version: str, warmth: Warmth) -> None:
        settings = self.settings
        most = min(settings.max_batch_size, model.max_rows or settings.max_batch_size)
        model.batched = warmth.batched
        if warmth.outputs is not None:
            model.outputs = declared_outputs(model.outputs, warmth.outputs)
        inline = warmth.forward_s is not None and warmth.forward_s < INLINE_FORWARD_S
        limits = BatchLimits(
            max_rows=most if model.batched else 1,
            max_delay_s=settings.max_delay_ms / 1000,
            max_queue=settings.max_queue_size,
            inline=inline,
        )
        batcher: Batcher[Arrays, Arrays] = Batcher(ModelCalls(model), limits, self.metrics.model)
        self._served = ServedModel(settings.model_name, version, model, batcher, self.metrics.model)
        _log.info(
            "model ready",
            format=model.format,
            device=model.device,
            batched=model.batched,
            max_rows=limits.max_rows,
            inline=inline,
            load_seconds=round(self._load_seconds, 3),
        )

    async def _in_thread(self) -> tuple[Model, str, Warmth]:
        """Load and warm in a daemon thread: one that hangs must not keep the process alive."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[Model, str, Warmth]] = loop.create_future()

        def settle(result: tuple[Model, str, Warmth] | BaseException) -> None:
            if done.done():
                return
            if isinstance(result, BaseException):
                done.set_exception(result)
            else:
                done.set_result(result)

        def work() -> None:
            try:
                result: tuple[Model, str, Warmth] | BaseException = self._load_and_warm()
            except StartupError as failure:
                result = failure
            except BaseException as error:  # noqa: BLE001 - the thread's root; told to the waiter
                _log.exception("loading failed")
                result = StartupError(
                    Reason.INVALID_ARTIFACT, f"{type(error).__name__}: {str(error)[:300]}"
                )
            loop.call_soon_threadsafe(settle, result)

        threading.Thread(target=work, name="loading", daemon=True).start()
        return await done

    def _load_and_warm(self) -> tuple[Model, str, Warmth]:
        settings = self.settings
        self._enter(State.LOADING)
        place = settings.model_path or settings.model_repository / settings.model_name
        artifact = find_artifact(place, model_format=settings.model_format)
        model = load_model(
            artifact,
            device=settings.device,
            threads=compute_threads(settings.threads),
            allow_pickle=settings.allow_pickle,
        )
        self._enter(State.WARMING)
        most = min(settings.max_batch_size, model.max_rows or settings.max_batch_size)
        return model, artifact.version, warm(model, max_rows=most)
