"""What a model that is loaded into a process of its own leaves in the server: its hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime.engine.process_engine import ProcessModel
from modelyard_runtime.engine.process_protocol import Start
from modelyard_runtime.handler import HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.artifacts import Artifact
    from modelyard_runtime.config import ModelConfig
    from modelyard_runtime.handler import Context, Handler

_SHORTEST_HANG_S: Final = 10.0


def load_in_own_process(
    artifact: Artifact, config: ModelConfig, count: Callable[[str, float], None]
) -> ProcessModel:
    """Load a model into a process of its own; no weights come into this one.

    Args:
        artifact: What to load.
        config: How it is to be served.
        count: Adds to a counter of its handler.

    Returns:
        The model, not yet warmed.

    Raises:
        StartupError: With the reason of the contract.
    """
    # By then every caller of the batch has been told that its deadline has passed.
    hang_s = max(_SHORTEST_HANG_S, config.queue.default_timeout_ms / 1000)
    return ProcessModel(Start(artifact, config), hang_s=hang_s, count=count)


def hooks_beside(
    handler: Handler | None, config: ModelConfig, context: Context, *, is_model: bool
) -> dict[str, Callable[..., Any]]:
    """Collect the hooks that run in the server, while the model is in another process.

    Args:
        handler: The user's file; None when there is none.
        config: How the model is to be served.
        context: For the class whose methods the hooks are.
        is_model: Whether the handler's class is the model itself, which must not be made here.

    Returns:
        Name → function.

    Raises:
        StartupError: ``InvalidHandler``: hooks are methods of the model.
    """
    if handler is None:
        return {}
    entry = handler.entry
    if not isinstance(entry, type):
        return handler.hooks(None)
    if not is_model:
        return handler.hooks(handler.make(context, config.kwargs))
    methods = [name for name in HOOKS if hasattr(entry, name)]
    if methods:
        raise handler.invalid(
            f"{', '.join(methods)} of {entry.__name__} would run in the server, and the model runs in a "
            "process of its own (engine: Process); make them functions of the file"
        )
    return handler.hooks(None)
