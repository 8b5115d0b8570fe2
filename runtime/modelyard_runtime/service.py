"""The process as the HTTP edge sees it: its state, its models, its limits."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING, Any, Final

import structlog

from modelyard_runtime.admission import Admission
from modelyard_runtime.auth.authenticator import Authenticator
from modelyard_runtime.auth.keys import KeysFolder
from modelyard_runtime.certificates import certificates_of
from modelyard_runtime.directives import DirectivesFile
from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.journal import Journal
from modelyard_runtime.lifecycle import Lifecycle, State
from modelyard_runtime.liveness import stalled, watch_lag
from modelyard_runtime.metrics import RuntimeMetrics
from modelyard_runtime.proving import Proving
from modelyard_runtime.rate_limits import RateLimits
from modelyard_runtime.records.access_log import AccessLog
from modelyard_runtime.records.audit import Audit
from modelyard_runtime.repository import Repository
from modelyard_runtime.serving import models_in, prepare, put_in_service
from modelyard_runtime.shadow.sender import ShadowSender
from modelyard_runtime.tracing.switch import Tracing

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.serving import Prepared
    from modelyard_runtime.settings import RuntimeSettings

_log = structlog.stdlib.get_logger(__name__)

_SWITCH_INTERVAL_S: Final = 1e-4
"""Python's default of 5 ms lets a busy event loop hold up each step of the engine thread."""

_FLUSH_S: Final = 3.0
"""Longest wait for a slow sink to take the last records."""


class Service:
    """Everything that lives as long as the process.

    Args:
        settings: The environment.

    Raises:
        StartupError: ``InvalidSettings``: the TLS files cannot be used.
    """

    def __init__(self, settings: RuntimeSettings) -> None:
        self.settings = settings
        self.certificates = certificates_of(settings)
        self.lifecycle = Lifecycle()
        self.metrics = RuntimeMetrics(settings)
        self.metrics.entered(State.STARTING, None)
        self.directives = DirectivesFile(settings.directives_file, self.metrics)
        self._keys = KeysFolder(settings.keys_dir)
        self._authenticator = Authenticator(self._keys)
        limits = RateLimits()
        self.tracing = Tracing(
            {"service.name": "modelyard-runtime", "modelyard.revision": settings.revision}
        )
        self.admission = Admission(
            self.directives,
            self._authenticator,
            limits=limits,
            tracing=self.tracing,
            max_in_flight=settings.max_in_flight,
            retry_after_s=self._retry_after_s,
        )
        audit, access_log = Audit(self.metrics.audit_dropped), AccessLog()
        self._shadow = ShadowSender(self.metrics)
        self.admission.is_copy = self._shadow.is_copy
        self.journal = Journal(self.metrics, audit, access_log, self._shadow)
        self._proving = Proving(
            settings, gates=lambda: self.directives.current.verification == "Gate"
        )
        self.repository = Repository(
            self._places,
            self._prepare,
            self._put_in_service,
            prove=self._proving.prove,
            control=settings.control,
        )
        self.metrics.follow_inflight(lambda: self.admission.inflight)
        for part in (self._authenticator, limits, audit, access_log, self.tracing, self._shadow):
            self.directives.follow(part.apply)

    @property
    def ready(self) -> bool:
        """Whether new traffic should come here."""
        return (
            self.lifecycle.state is State.READY
            and self.repository.complete
            and self.stalled is None
        )

    @property
    def stalled(self) -> str | None:
        """Which engine no longer does its work; None while all do."""
        return stalled(self.repository.served)

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
        return self.repository.get(name, version)

    async def start(self, beside: Awaitable[None] | None = None) -> None:
        """Load and warm the models, then turn ready.

        Args:
            beside: What else must be done before the process is ready.

        Raises:
            StartupError: Nothing can be served; the state is then ``FAILED``.
        """
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        loop = asyncio.get_running_loop()
        self.metrics.follow_tasks(lambda: len(asyncio.all_tasks(loop)))
        self._keys.poll()
        self.directives.poll()
        try:
            await self._load_all()
            if beside is not None:
                await beside
        except StartupError as failure:
            self._enter(State.FAILED, failure)
            raise
        # What loading left behind lives as long as the process: the collector need not look again.
        gc.collect()
        gc.freeze()
        self._enter(State.READY)

    async def watch(self) -> None:
        """Follow what may change while the process runs, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.directives.watch())
            tasks.create_task(self._authenticator.watch())
            tasks.create_task(watch_lag(self.metrics.loop_lag))
            if self.certificates is not None:
                tasks.create_task(self.certificates.watch())

    def drain(self) -> None:
        """Turn unready; requests are still answered."""
        self._enter(State.DRAINING)

    def close(self) -> None:
        """Stop the engines and what follows the outside world."""
        self._authenticator.close()
        self._shadow.close()
        self.repository.close()
        self.journal.close(_FLUSH_S)
        self.tracing.close(_FLUSH_S)

    def status(self) -> dict[str, Any]:
        """Describe the process for ``GET /status``.

        Returns:
            The document of the contract.
        """
        settings, failure = self.settings, self.lifecycle.failure
        return {
            "state": str(self.lifecycle.state),
            "model": settings.model_name,
            "version": settings.model_version,
            "revision": settings.revision,
            "directivesHash": self.directives.hash,
            "download": None,
            "failure": failure.as_document() if failure else None,
            "models": self.repository.status(),
            "verification": self._proving.verification,
            "keys": {"principals": len(self._keys), "jwks": self._keys.jwks is not None},
        }

    async def _load_all(self) -> None:
        """Load what there is; one broken model among several does not keep the others out."""
        self._enter(State.LOADING)
        names = list(self._places())
        if not names:
            raise StartupError(
                Reason.ARTIFACT_NOT_FOUND,
                f"{self.settings.model_repository} holds no model",
                hint="Put one folder per model there: <name>/<version>/<file>.",
            )
        failures: list[StartupError] = []
        try:
            async with asyncio.timeout(self.settings.startup_timeout_s):
                for name in names:
                    try:
                        await self.repository.load(name)
                    except StartupError as failure:
                        failures.append(failure)
                        _log.error("model failed to load", model=name, problem=failure.message)
        except TimeoutError:
            raise StartupError(
                Reason.STARTUP_TIMEOUT,
                f"not ready within {self.settings.startup_timeout_s:g} s, "
                f"still {str(self.lifecycle.state).lower()}",
                hint="Raise spec.runtime.timeouts.startupSeconds, or the CPU request.",
                retryable=True,
            ) from None
        if failures and not self.repository.served:
            raise failures[0]

    def _places(self) -> dict[str, Path]:
        settings = self.settings
        name, repository = settings.model_name, settings.model_repository
        if settings.model_path is not None:
            return {name or "model": settings.model_path}
        if name is not None:
            return {name: repository / name}
        return models_in(repository)

    def _prepare(self, name: str, place: Path) -> list[Prepared]:
        return prepare(
            name,
            place,
            self.settings,
            self.metrics,
            on_warming=lambda: self._enter(State.WARMING),
        )

    def _put_in_service(self, name: str, prepared: Prepared) -> ServedModel:
        served = put_in_service(name, prepared, self.settings, self.metrics)
        if name != self.settings.model_name:  # else the process's own states are the model's
            served.metrics.entered(State.READY, None)
        return served

    def _retry_after_s(self) -> float:
        return max((m.batcher.retry_after_s() for m in self.repository.served), default=1.0)

    def _enter(self, state: State, failure: StartupError | None = None) -> None:
        previous = self.lifecycle.state
        if failure is not None:
            self.lifecycle.fail(failure)
        else:
            self.lifecycle.advance(state)
        if self.lifecycle.state is previous:
            return
        self.metrics.entered(self.lifecycle.state, previous)
        if state is State.DRAINING:
            for served in self.repository.served:
                served.metrics.entered(state, State.READY)
