"""What the server and the process of an engine say to each other, besides tensors.

Both ends are the same program on the same machine, so what is said is pickled.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime import errors
from modelyard_runtime.engine.protocol import Model
from modelyard_runtime.errors import InferenceError, RequestError, StartupError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.artifacts import Artifact
    from modelyard_runtime.config import ModelConfig
    from modelyard_runtime.engine.shared_memory import Letter
    from modelyard_runtime.warming import Warmth

_TOLD: Final = tuple(Model.__annotations__)
"""What the rest of the runtime asks a model for."""


@dataclass(frozen=True, slots=True)
class Start:
    """First word of the server: what to load.

    Attributes:
        artifact: What to load.
        config: How it is to be served.
    """

    artifact: Artifact
    config: ModelConfig


@dataclass(frozen=True, slots=True)
class Warm:
    """Second word of the server: run the model before anyone waits for it.

    Attributes:
        how: Keyword arguments of ``warming.warm``.
    """

    how: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """The model cannot be served.

    Attributes:
        failure: The arguments of the ``StartupError``.
    """

    failure: Mapping[str, Any]

    @classmethod
    def because(cls, error: StartupError) -> Refused:
        """Say why.

        Args:
            error: What ended the start.

        Returns:
            The message.
        """
        return cls(
            {
                "reason": error.reason,
                "message": error.message,
                "hint": error.hint,
                "retryable": error.retryable,
            }
        )

    def error(self) -> StartupError:
        """Return what ended the start."""
        return StartupError(**self.failure)


@dataclass(frozen=True, slots=True)
class Described:
    """The model is loaded, or warm.

    Attributes:
        model: What ``Model`` declares, by name.
        warmth: What warming found out; None before it.
    """

    model: Mapping[str, Any]
    warmth: Warmth | None = None

    @classmethod
    def of(cls, model: Model, warmth: Warmth | None = None) -> Described:
        """Describe a model.

        Args:
            model: The model.
            warmth: What warming found out.

        Returns:
            The message.
        """
        return cls({name: getattr(model, name) for name in _TOLD}, warmth)


@dataclass(frozen=True, slots=True)
class Question:
    """One batch.

    Attributes:
        inputs: Where its tensors lie.
    """

    inputs: Letter


@dataclass(frozen=True, slots=True)
class Answer:
    """One batch's outputs.

    Attributes:
        outputs: Where they lie.
        counted: What a handler counted meanwhile: names and amounts.
    """

    outputs: Letter
    counted: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """The model raised.

    Attributes:
        kind: The error's class.
        message: What it says.
        trace: The traceback, for the log.
        counted: As in ``Answer``.
    """

    kind: str
    message: str
    trace: str
    counted: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, error: Exception, counted: tuple[tuple[str, float], ...]) -> Failure:
        """Describe what a model raised.

        Args:
            error: The error.
            counted: What was counted.

        Returns:
            The message.
        """
        trace = "".join(traceback.format_exception(error))
        return cls(type(error).__name__, str(error), trace, counted)

    def error(self) -> Exception:
        """Return the error as the server would have seen it.

        Returns:
            The same ``RequestError`` or ``MemoryError``; else a ``ModelFailedError``.
        """
        cls = getattr(errors, self.kind, None)
        if isinstance(cls, type) and issubclass(cls, RequestError):
            if cls.__init__ is Exception.__init__:
                return cls(self.message)
            return InferenceError(self.message)
        if self.kind == "MemoryError":
            return MemoryError(self.message)
        return ModelFailedError(f"{self.kind}: {self.message}\n{self.trace}")


class ModelFailedError(Exception):
    """A model in a process of its own raised; the text holds its traceback, for the log."""
