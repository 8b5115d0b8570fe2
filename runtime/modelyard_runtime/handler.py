"""A user's Python file: the model itself, or hooks around it.

Nothing has to be imported from here, and there is no base class::

    from modelyard_runtime import InvalidInput

    def preprocess(request, ctx):
        if not request.inputs["text"].size:
            raise InvalidInput("text is empty")          # answered 400
        return {"x": features(request.inputs["text"])}

    async def postprocess(outputs, ctx):
        ctx.counter("fraud_fallback_total")
        return outputs

Hooks are functions of the file, or methods of its one class.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import os
import sys
import threading
import traceback
import types
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from modelyard_runtime.errors import Reason, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from modelyard_runtime.config import ModelConfig
    from modelyard_runtime.engine.protocol import Array

HOOKS: Final = ("preprocess", "postprocess", "stream")
_MODEL_METHODS: Final = ("load", "predict", "forward", "__call__")
_numbers: Iterator[int] = itertools.count()
_importing: Final = threading.RLock()
_folders: Final[list[str]] = []
"""Folders of handlers, which are on ``sys.path``."""


@dataclass(slots=True)
class Request:
    """What a hook is given of one request.

    Attributes:
        inputs: Name → array, as the caller sent it; strings are objects of ``bytes``.
        parameters: The request's parameters.
        id: The caller's ``id``; None when it sent none.
    """

    inputs: dict[str, Array]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None


class Context:
    """What a hook may know and do besides its request.

    Args:
        path: The model's folder.
        device: Where the model runs: ``cpu`` or ``cuda``.
        config: The model's configuration.
        count: Adds to a counter of the handler's own.
    """

    def __init__(
        self, path: Path, device: str, config: ModelConfig, count: Callable[[str, float], None]
    ) -> None:
        self.path = path
        self.device = device
        self.config = config
        self.log = structlog.stdlib.get_logger("handler")
        self._count = count

    def counter(self, name: str, amount: float = 1.0) -> None:
        """Add to a Prometheus counter, for instance one that a rollout's analysis reads.

        Args:
            name: Its name; it carries the model's labels. 0 as amount shows it from the start.
            amount: What to add.

        Raises:
            ValueError: The name is not one of a counter, or the handler has too many of them.
        """
        self._count(name, amount)


class Handler:
    """A user's file, imported.

    Args:
        path: The file.
        entry: What in it is the model; None finds it.

    Raises:
        StartupError: ``InvalidHandler``: it does not import, or ``entry`` is not in it.
    """

    def __init__(self, path: Path, entry: str | None = None) -> None:
        self.path = path
        self._module = _import(path)
        self._entry = entry
        if entry is not None and not callable(getattr(self._module, entry, None)):
            raise self.invalid(f"it has no class or function {entry!r}; it has {self._names()}")

    @property
    def entry(self) -> Callable[..., Any] | None:
        """The class or function that is the model.

        Raises:
            StartupError: ``InvalidHandler``: there are several, and none is named.
        """
        if self._entry is not None:
            found: Callable[..., Any] = getattr(self._module, self._entry)
            return found
        classes = [c for c in self._classes() if _has(c, (*HOOKS, *_MODEL_METHODS))]
        if len(classes) > 1:
            with_hooks = [c for c in classes if _has(c, HOOKS)]
            if len(with_hooks) != 1:
                names = ", ".join(c.__name__ for c in classes)
                raise self.invalid(f"it has several classes ({names}); name one with 'entry'")
            classes = with_hooks
        return classes[0] if classes else self.function("predict")

    def function(self, name: str) -> Callable[..., Any] | None:
        """Look a function of the file up.

        Args:
            name: Its name.

        Returns:
            The function; None when there is none.
        """
        found = getattr(self._module, name, None)
        return found if inspect.isroutine(found) else None

    def hooks(self, instance: object | None) -> dict[str, Callable[..., Any]]:
        """Collect the hooks.

        Args:
            instance: Of the entry's class; None: only functions of the file count.

        Returns:
            Name → function; methods win over functions of the file.

        Raises:
            StartupError: ``InvalidHandler``: a hook does not take what hooks are given.
        """
        found = {}
        for name in HOOKS:
            hook = getattr(instance, name, None) or self.function(name)
            if callable(hook):
                found[name] = self._with_context(name, hook)
        return found

    def make(self, context: Context, kwargs: Mapping[str, Any]) -> object:
        """Make the model that the file describes.

        ``load(ctx)`` makes or completes it where there is one; else the class is called with
        ``kwargs``; a function is the model itself.

        Args:
            context: For ``load``.
            kwargs: For the class.

        Returns:
            The instance, or the function.

        Raises:
            StartupError: ``InvalidHandler``: there is nothing to make, or making it raises.
        """
        entry = self.entry
        if entry is None:
            raise self.invalid(f"it has neither a class nor 'predict'; it has {self._names()}")
        try:
            return _made(entry, self.function("load"), context, kwargs)
        except (StartupError, MemoryError):
            raise
        except Exception as error:
            raise self.failed(error) from error

    def forget(self) -> None:
        """Let the file's module go; nothing of it runs any more."""
        sys.modules.pop(self._module.__name__, None)

    def invalid(self, problem: str) -> StartupError:
        """Say what is wrong with the file.

        Args:
            problem: What.

        Returns:
            ``InvalidHandler``.
        """
        return StartupError(
            Reason.INVALID_HANDLER,
            f"{self.path.name}: {problem}",
            hint="See docs/how-to/hooks.md for what a handler looks like.",
        )

    def failed(self, error: BaseException) -> StartupError:
        """Say that the file's own code raised.

        Args:
            error: What it raised.

        Returns:
            ``InvalidHandler``, with the line in the user's file.
        """
        return _failed(self.path, error)

    def _with_context(self, name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Let hooks leave ``ctx`` out."""
        try:
            inspect.signature(hook).bind(None, None)
        except TypeError:
            try:
                inspect.signature(hook).bind(None)
            except TypeError:
                given = "outputs" if name == "postprocess" else "request"
                raise self.invalid(
                    f"{name} must take ({given}, ctx), it takes {inspect.signature(hook)}"
                ) from None
            return _WithoutContext(hook)
        return hook

    def _classes(self) -> list[type]:
        return [
            found
            for name, found in vars(self._module).items()
            if isinstance(found, type)
            and found.__module__ == self._module.__name__
            and not name.startswith("_")
        ]

    def _names(self) -> str:
        own = [
            name
            for name, found in vars(self._module).items()
            if getattr(found, "__module__", None) == self._module.__name__
        ]
        return ", ".join(own[:10]) or "nothing"


class _WithoutContext:
    """A hook that takes no ``ctx``."""

    def __init__(self, hook: Callable[..., Any]) -> None:
        self.hook = hook

    def __call__(self, given: object, ctx: object) -> Any:
        del ctx
        return self.hook(given)


def unwrapped(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return the user's own function, to ask whether it is asynchronous.

    Args:
        hook: As ``Handler.hooks`` gave it.

    Returns:
        What the user wrote.
    """
    return hook.hook if isinstance(hook, _WithoutContext) else hook


def _import(path: Path) -> types.ModuleType:
    """Run the file as a module of its own; nothing is written beside it."""
    module = types.ModuleType(f"modelyard_handler_{next(_numbers)}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickle look their module up
    try:
        code = compile(path.read_bytes(), str(path), "exec")
        with _own_helpers(str(path.parent)):
            exec(code, vars(module))  # noqa: S102 - the user's own code, allowed by allowed.py
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise _failed(path, error) from error
    return module


@contextmanager
def _own_helpers(folder: str) -> Iterator[None]:
    """Let a handler import what lies beside it: its own files, not those of another model's handler.

    Its folder is searched before those of other handlers, and after the libraries, which no helper
    hides. What was imported from it is forgotten, so that another handler, or this one when it is
    loaded again, imports its own.
    """
    with _importing:
        if folder in _folders:
            _folders.remove(folder)
            sys.path.remove(folder)
        others = [sys.path.index(each) for each in _folders if each in sys.path]
        sys.path.insert(min(others, default=len(sys.path)), folder)
        _folders.append(folder)
        importlib.invalidate_caches()
        before = set(sys.modules)
        try:
            yield
        finally:
            for name in set(sys.modules) - before:
                file = getattr(sys.modules[name], "__file__", None) or ""
                if file.startswith(f"{folder}{os.sep}"):
                    del sys.modules[name]


def _made(
    entry: Callable[..., Any],
    load: Callable[..., Any] | None,
    context: Context,
    kwargs: Mapping[str, Any],
) -> object:
    if not isinstance(entry, type):
        if load is not None:
            load(context)
        return entry
    own_load = inspect.getattr_static(entry, "load", None)
    if isinstance(own_load, (classmethod, staticmethod)):
        return entry.load(context)  # type: ignore[attr-defined]
    instance = entry(**kwargs)
    if own_load is not None:
        instance.load(context)
    return instance


def _has(cls: type, names: tuple[str, ...]) -> bool:
    return any(name in vars(base) for base in cls.__mro__ if base is not object for name in names)


def _failed(path: Path, error: BaseException) -> StartupError:
    line = _line(path, error)
    where = f"line {line}: " if line else ""
    return StartupError(
        Reason.INVALID_HANDLER,
        f"{path.name}: {where}{type(error).__name__}: {str(error)[:300]}",
        hint="Run the file with the image's Python to see the whole error.",
    )


def _line(path: Path, error: BaseException) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return lines[-1] if lines else None
