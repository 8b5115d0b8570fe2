"""What a model has to answer before it serves: warm-up requests, and golden ones."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

from modelyard_runtime.call import Call
from modelyard_runtime.errors import Reason, RequestError, StartupError
from modelyard_runtime.golden import difference, read_verifications, read_warmups
from modelyard_runtime.tensors import not_finite
from modelyard_runtime.wire.rest_v2 import decode_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.engine.protocol import Arrays
    from modelyard_runtime.golden import Recording
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.settings import RuntimeSettings

_log = structlog.stdlib.get_logger(__name__)

_PROTOCOL: Final = "recording"


class Proving:
    """Asks every model that is loaded what the files hold.

    Args:
        settings: Which files, how often, and how exact.
        gates: Whether an answer that differs from the recorded one keeps the model from serving.
    """

    def __init__(self, settings: RuntimeSettings, gates: Callable[[], bool]) -> None:
        self._settings = settings
        self._gates = gates
        self.verification: dict[str, Any] | None = None
        """The contract's ``verification``; None while nothing has been verified."""

    async def prove(self, served: ServedModel) -> None:
        """Ask a warm model, which nobody else can ask yet.

        Args:
            served: The model.

        Raises:
            StartupError: ``WarmupFailed`` or ``VerificationFailed``, naming the request;
                ``InvalidSettings`` for a file that cannot be used.
        """
        settings = self._settings
        if not (settings.warmup_files or settings.verification_files):
            return
        if settings.model_name is None:
            raise StartupError(
                Reason.INVALID_SETTINGS,
                "MODELYARD_WARMUP_FILES and MODELYARD_VERIFICATION_FILES are for one model",
                hint="Set MODELYARD_MODEL_NAME.",
            )
        for recording in read_warmups(settings.warmup_files):
            for _ in range(served.hooks.config.warmup.iterations):
                await self._warm(served, recording)
        if settings.verification_files:
            await self._verify(served, read_verifications(settings.verification_files))

    async def _warm(self, served: ServedModel, recording: Recording) -> None:
        try:
            outputs = await self._ask(served, recording)
        except RequestError as error:
            raise _failed(Reason.WARMUP_FAILED, recording, str(error)) from error
        name = not_finite(served.signature.outputs, outputs)
        if name is not None:
            raise _failed(Reason.WARMUP_FAILED, recording, f"output {name!r} holds NaN or infinity")

    async def _verify(self, served: ServedModel, recordings: list[Recording]) -> None:
        problem: str | None = None
        for recording in recordings:
            problem = await self._disagreement(served, recording)
            if problem is not None:
                break
        self.verification = {
            "outcome": "Passed" if problem is None else "Failed",
            "requests": len(recordings),
            "problem": problem,
        }
        if problem is None:
            _log.info("golden requests agree", model=served.name, requests=len(recordings))
            return
        failure = StartupError(
            Reason.VERIFICATION_FAILED,
            problem[:1000],
            hint="The model does not answer as it was recorded: wrong artifact, or record anew.",
        )
        if self._gates():
            raise failure
        _log.error("golden requests disagree", model=served.name, problem=problem)

    async def _disagreement(self, served: ServedModel, recording: Recording) -> str | None:
        try:
            outputs = await self._ask(served, recording)
        except RequestError as error:
            return f"{recording.name}: {error}"
        found = difference(
            recording,
            served.signature.outputs,
            outputs,
            self._settings.verification_tolerance,
        )
        return None if found is None else f"{recording.name}: {found}"

    async def _ask(self, served: ServedModel, recording: Recording) -> Arrays:
        call = Call(
            request_id=recording.name,
            protocol=_PROTOCOL,
            started=time.perf_counter(),
            # The whole start has a limit; a first inference may be slow.
            deadline=asyncio.get_running_loop().time() + self._settings.startup_timeout_s,
        )
        asked = decode_request(recording.request, served.signature)
        return await served.answer(asked.question, call)


def _failed(reason: Reason, recording: Recording, problem: str) -> StartupError:
    return StartupError(
        reason,
        f"{recording.name}: {problem[:600]}",
        hint="Warm-up requests are real requests: each must be answered, with finite numbers.",
    )
