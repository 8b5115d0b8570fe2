"""The models of the process by name and version: how they come, are replaced, and go."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import structlog

from modelyard_runtime.errors import (
    ForbiddenError,
    InvalidInputError,
    LoadError,
    NotFoundError,
    NotReadyError,
    Reason,
    StartupError,
)
from modelyard_runtime.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from pathlib import Path

    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.serving import Prepared

_log = structlog.stdlib.get_logger(__name__)


class ModelState(StrEnum):
    """The states of the repository index.

    References:
        Triton, "Model Repository Extension", ``state``.
    """

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(slots=True)
class _Entry:
    """One version of one model."""

    state: ModelState
    reason: str = ""
    served: ServedModel | None = None

    @property
    def shown(self) -> tuple[ModelState, str]:
        """State and reason as the index tells them."""
        outage = self.served.model.outage if self.served is not None else None
        if outage is None:
            return self.state, self.reason
        state = ModelState.UNAVAILABLE if outage.unavailable else ModelState.LOADING
        return state, outage.reason


class Repository:
    """Every model that the process knows.

    Args:
        places: Served name → its file or folder; asked again at every load, so that a model that was
            put there later is found.
        prepare: Loads and warms all wanted versions of one model; runs in a thread of its own.
        serve: Puts a queue in front of a warm model; runs on the event loop.
        prove: Asks a model what it must answer before it serves.
        control: ``none`` closes the load and unload API.
    """

    def __init__(
        self,
        places: Callable[[], dict[str, Path]],
        prepare: Callable[[str, Path], Sequence[Prepared]],
        serve: Callable[[str, Prepared], ServedModel],
        *,
        prove: Callable[[ServedModel], Awaitable[None]],
        control: str,
    ) -> None:
        self._places = places
        self._prepare = prepare
        self._serve = serve
        self._prove = prove
        self._control = control
        self._entries: dict[str, dict[str, _Entry]] = {}
        self._latest: dict[str, ServedModel] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """Find the model of a request.

        Args:
            name: As the caller wrote it.
            version: As the caller wrote it; None takes the highest that is ready.

        Returns:
            The model; hold it (``with``) while working with it.

        Raises:
            NotFoundError: There is no such model or version.
            NotReadyError: It is there, and not ready.
        """
        if version is None:
            latest = self._latest.get(name)
            if latest is not None:
                return _answering(latest)
        versions = self._entries.get(name)
        if versions is None:
            if name in self._places():
                raise NotReadyError(f"model {name[:80]!r} is not loaded")
            raise NotFoundError(f"there is no model {name[:80]!r}")
        if version is None:
            states = ", ".join(str(e.state).lower() for e in versions.values()) or "loading"
            raise NotReadyError(f"model {name!r} is {states}")
        entry = versions.get(version)
        if entry is None:
            raise NotFoundError(f"model {name!r} has no version {version[:40]!r}")
        if entry.served is None:
            raise NotReadyError(f"model {name!r} version {version} is {str(entry.state).lower()}")
        return _answering(entry.served)

    @property
    def served(self) -> list[ServedModel]:
        """Every model that answers."""
        return [
            entry.served
            for versions in self._entries.values()
            for entry in versions.values()
            if entry.served is not None
        ]

    def versions(self, name: str) -> list[str]:
        """List the versions of a model that answer.

        Args:
            name: The served name.

        Returns:
            Versions, lowest first.
        """
        entries = self._entries.get(name, {})
        return sorted((v for v, e in entries.items() if e.served is not None), key=_order)

    async def load(self, name: str) -> None:
        """Load a model, or load it again: the new one is warm before the old one drains.

        Args:
            name: The served name.

        Raises:
            NotFoundError: There is no such model on disk.
            StartupError: It cannot be served; what was served before still is.
        """
        place = self._places().get(name)
        if place is None:
            raise NotFoundError(f"there is no model {name[:80]!r} in the repository")
        async with self._locks.setdefault(name, asyncio.Lock()):
            before = self._entries.setdefault(name, {})
            if not before:
                before["1"] = _Entry(ModelState.LOADING)
            started = time.perf_counter()
            try:
                prepared = await in_daemon_thread(
                    lambda: self._prepare(name, place), name="loading"
                )
                fresh = await self._proved([self._serve(name, item) for item in prepared])
            except Exception as error:
                failure = startup_error(error)
                self._failed(name, failure)
                raise failure from error
            seconds = time.perf_counter() - started
            for served in fresh:
                served.load_seconds = seconds
                served.metrics.loaded(seconds)
            self._replace(name, fresh)

    async def reload(self, name: str, parameters: Collection[str] = ()) -> None:
        """Load a model for a client of the load API.

        Args:
            name: The served name.
            parameters: The names of what else the client asks for; nothing is taken.

        Raises:
            InvalidInputError: There are parameters.
            NotFoundError: There is no such model on disk.
            LoadError: It cannot be served; what was served before still is.
        """
        if parameters:
            raise InvalidInputError(
                f"parameters of load are not taken, got {', '.join(sorted(parameters))[:80]}; "
                "write a model.yaml into the model's folder"
            )
        try:
            await self.load(name)
        except StartupError as error:
            raise LoadError(
                f"model {name!r} cannot be served: {error.reason}: {error.message}"
            ) from error

    async def unload(self, name: str) -> None:
        """Take a model out; those who hold it still get their answers.

        Args:
            name: The served name.

        Raises:
            NotFoundError: It is not loaded.
        """
        async with self._locks.setdefault(name, asyncio.Lock()):
            if name not in self._entries:
                raise NotFoundError(f"model {name[:80]!r} is not loaded")
            self._replace(name, [])
            for entry in self._entries[name].values():
                entry.state, entry.reason = ModelState.UNAVAILABLE, "unloaded"
            _log.info("model unloaded", model=name)

    def require_control(self) -> None:
        """Refuse where load and unload are closed.

        Raises:
            ForbiddenError: They are.
        """
        if self._control == "none":
            raise ForbiddenError("loading and unloading is closed here (MODELYARD_CONTROL=none)")

    def index(self, *, ready_only: bool = False) -> list[dict[str, str]]:
        """List the models with their states.

        Args:
            ready_only: Leave out what is not ready.

        Returns:
            ``name``, ``version``, ``state`` and ``reason`` of each version; models on disk that were
            never loaded have a name alone.

        References:
            Triton, "Model Repository Extension", index.
        """
        rows = []
        for name in sorted({*self._entries, *self._places()}):
            versions = self._entries.get(name, {})
            if not versions and not ready_only:
                rows.append({"name": name})
            for version, entry in sorted(versions.items(), key=lambda item: _order(item[0])):
                state, reason = entry.shown
                if ready_only and state is not ModelState.READY:
                    continue
                rows.append(
                    {"name": name, "version": version, "state": str(state), "reason": reason}
                )
        return rows

    @property
    def complete(self) -> bool:
        """Whether something answers, and nothing that was asked for failed to."""
        latest = self._latest
        return bool(latest) and all(
            name in latest and latest[name].model.outage is None for name in self._wanted()
        )

    async def settle(self) -> None:
        """Wait until every replaced model has drained."""
        while self._retiring:
            await asyncio.wait(set(self._retiring))

    def close(self) -> None:
        """Stop every model."""
        for task in self._retiring:
            task.cancel()
        for served in self.served:
            served.close()

    def status(self) -> list[dict[str, Any]]:
        """Describe the models for ``GET /status``.

        Returns:
            The contract's ``models``.
        """
        return [served.status() for served in self.served]

    async def _proved(self, fresh: list[ServedModel]) -> list[ServedModel]:
        try:
            for served in fresh:
                await self._prove(served)
        except BaseException:
            for served in fresh:
                served.close()
            raise
        return fresh

    def _wanted(self) -> list[str]:
        return [
            name
            for name, versions in self._entries.items()
            if any(entry.reason != "unloaded" for entry in versions.values())
        ]

    def _failed(self, name: str, failure: StartupError) -> None:
        reason = f"{failure.reason}: {failure.message}"
        for entry in self._entries[name].values():
            entry.reason = reason
            if entry.served is None:
                entry.state = ModelState.UNAVAILABLE

    def _replace(self, name: str, fresh: Sequence[ServedModel]) -> None:
        """Swap in one step: a request sees the old models or the new ones."""
        old = [e.served for e in self._entries[name].values() if e.served is not None]
        if fresh:
            self._entries[name] = {
                served.version: _Entry(ModelState.READY, served=served) for served in fresh
            }
            self._latest[name] = max(fresh, key=lambda served: _order(served.version))
        else:
            self._latest.pop(name, None)
            for entry in self._entries[name].values():
                entry.served = None
        for served in old:
            task = asyncio.get_running_loop().create_task(served.retire())
            self._retiring.add(task)
            task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        """Free what models are made of: libraries' modules often hold themselves.

        What was there at the start is frozen, so there is little to look at; left to itself the
        collector would not come before much more had piled up than a few models' objects.
        """
        self._retiring.discard(task)
        gc.collect()


def startup_error(error: Exception) -> StartupError:
    """Give a reason of the contract to whatever a loader raised.

    Args:
        error: What was raised.

    Returns:
        The error itself, or ``InvalidArtifact``.
    """
    if isinstance(error, StartupError):
        return error
    _log.error("loading failed", exc_info=error)
    return StartupError(Reason.INVALID_ARTIFACT, f"{type(error).__name__}: {str(error)[:300]}")


def _answering(served: ServedModel) -> ServedModel:
    if (outage := served.model.outage) is not None:
        raise NotReadyError(f"model {served.name!r}: {outage.reason}")
    return served


def _order(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdecimal() else (-1, version)
