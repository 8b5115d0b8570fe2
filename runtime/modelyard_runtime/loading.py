"""Local files → models in memory: find the artifacts, tell their format, call their loaders.

Each format's library is imported only when a model needs it, so an image without torch serves ONNX
and scikit-learn, and starts as fast as they allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from modelyard_runtime.allowed import (
    MADE_BY_CODE,
    allowed_handler,
    entry_file,
    import_handler,
    require_allowed,
)
from modelyard_runtime.artifacts import Artifact, find_artifact, find_artifacts, is_script
from modelyard_runtime.compute import bound_thread_pools, compute_threads
from modelyard_runtime.config import ModelConfig
from modelyard_runtime.declared import as_specs, declare
from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.handler import Context, Handler
from modelyard_runtime.hooks import Hooks
from modelyard_runtime.memory import is_out_of_memory
from modelyard_runtime.own_process import hooks_beside, load_in_own_process

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from pathlib import Path

    from modelyard_runtime.config import ModelTensor
    from modelyard_runtime.engine.protocol import Model
    from modelyard_runtime.engine.torch_engine import Placement
    from modelyard_runtime.settings import RuntimeSettings

    Count = Callable[[str, float], None]

__all__ = [
    "Artifact",
    "Loaded",
    "find_artifact",
    "load_model",
    "load_models",
    "out_of_memory",
]

_log = structlog.stdlib.get_logger(__name__)

_CPU_ONLY: Final = frozenset({"Sklearn", "XGBoost", "LightGBM", "MLflow", "Custom"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """One version of a model in memory.

    Attributes:
        artifact: Where it came from.
        config: How it is to be served.
        model: The model, not yet warmed.
        hooks: What runs around it.
    """

    artifact: Artifact
    config: ModelConfig
    model: Model
    hooks: Hooks


def load_models(
    place: Path, settings: RuntimeSettings, config: ModelConfig, count_of: Callable[[str], Count]
) -> list[Loaded]:
    """Load every version of a model that is to be served.

    Args:
        place: Its file or folder.
        settings: The environment.
        config: What ``read_config`` gave.
        count_of: Version → how its handler counts.

    Returns:
        Lowest version first.

    Raises:
        StartupError: With the reason of the contract.
    """
    own_code = settings.handler_file or entry_file(place, config)
    artifacts = find_artifacts(
        place, model_format=config.format, policy=config.versions, handler=own_code
    )
    loaded = []
    for artifact in artifacts:
        require_allowed(artifact, config)
        handler = allowed_handler(artifact, config, settings)
        loaded.append(_load_version(artifact, config, handler, count_of(artifact.version)))
    return loaded


def load_model(artifact: Artifact, *, device: str, threads: int, allow_pickle: bool) -> Model:
    """Load a model without hooks into memory.

    Args:
        artifact: What to load.
        device: ``Auto``, ``CPU`` or ``CUDA``.
        threads: Compute threads.
        allow_pickle: Whether formats that run code while loading may load.

    Returns:
        The model, not yet warmed.

    Raises:
        StartupError: With the reason of the contract.
    """
    config = ModelConfig.model_validate(
        {"device": device, "threads": threads, "allow_pickle": allow_pickle}
    )
    require_allowed(artifact, config)
    return _load_version(artifact, config, None, _uncounted).model


def load_alone(artifact: Artifact, config: ModelConfig, count: Count) -> Model:
    """Load a model into this process, which is the engine's: its hooks run in the server.

    Args:
        artifact: What the server has found, and may load.
        config: How it is to be served.
        count: Adds to a counter of its handler.

    Returns:
        The model, not yet warmed.

    Raises:
        StartupError: With the reason of the contract.
    """
    here = config.model_copy(update={"engine": "Thread"})
    return _load_version(artifact, here, import_handler(artifact, here), count).model


def out_of_memory(path: Path) -> StartupError:
    """Say that the model of a file or folder does not fit.

    Args:
        path: Where it lies.

    Returns:
        The error to raise.
    """
    files = path.rglob("*") if path.is_dir() else [path]
    size_mib = sum(file.stat().st_size for file in files if file.is_file()) / 2**20
    return StartupError(
        Reason.OUT_OF_MEMORY,
        f"{path.name} ({size_mib:.0f} MiB) does not fit into memory",
        hint="Raise the memory limit to at least three times the model's size.",
    )


def _load_version(
    artifact: Artifact, config: ModelConfig, handler: Handler | None, count: Count
) -> Loaded:
    threads = compute_threads(config.threads)
    bound_thread_pools(threads)
    folder = artifact.path if artifact.path.is_dir() else artifact.path.parent
    context = Context(folder, "cpu", config, count)
    loader = _Loader(artifact, config, handler, context, threads)
    model: Model
    try:
        if config.engine == "Process":
            made = artifact.format in MADE_BY_CODE
            hooks = hooks_beside(handler, config, context, is_model=made)
            model = load_in_own_process(artifact, config, count)
        else:
            model = loader.load()
            hooks = handler.hooks(loader.instance()) if handler is not None else {}
            declare(model, *_reaching_the_model(config, hooks))
    except MemoryError as error:
        raise out_of_memory(artifact.path) from error
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise out_of_memory(artifact.path) from error
        raise StartupError(
            Reason.INVALID_ARTIFACT, f"{artifact.path.name}: {str(error)[:300]}"
        ) from error
    if handler is not None and not hooks and artifact.format not in MADE_BY_CODE:
        raise handler.invalid("it defines none of preprocess, postprocess, stream")
    declared = as_specs(config.inputs), as_specs(config.outputs)
    on_close = _nothing if handler is None else handler.forget
    return Loaded(
        artifact, config, model, Hooks(hooks, context, model, declared, on_close=on_close)
    )


class _Loader:
    """Calls the loader of a format, and keeps the user's instance that it may make."""

    def __init__(
        self,
        artifact: Artifact,
        config: ModelConfig,
        handler: Handler | None,
        context: Context,
        threads: int,
    ) -> None:
        self._artifact = artifact
        self._config = config
        self._handler = handler
        self.context = context
        self._threads = threads
        self._instance: object | None = None

    def instance(self) -> object | None:
        """Return what the hooks are methods of; made now where no loader has made it."""
        handler = self._handler
        if self._instance is None and handler is not None and isinstance(handler.entry, type):
            self._instance = handler.make(self.context, self._config.kwargs)
        return self._instance

    def load(self) -> Model:
        artifact, config = self._artifact, self._config
        path, name = artifact.path, artifact.format
        if config.device == "CUDA" and name in _CPU_ONLY - {"Custom"}:
            raise StartupError(
                Reason.DEVICE_UNAVAILABLE,
                f"CUDA is asked for and {name} runs on the CPU only",
                hint="Use device: Auto or CPU.",
            )
        if name == "Custom":
            return self._custom()
        if name == "ONNX":
            from modelyard_runtime.engine.onnx_engine import load_onnx  # noqa: PLC0415 - see above

            return load_onnx(path, device=config.device, threads=self._threads)
        return self._tabular() if name in _CPU_ONLY else self._torch()

    def _tabular(self) -> Model:
        path, name = self._artifact.path, self._artifact.format
        if name == "Sklearn":
            from modelyard_runtime.engine.sklearn_engine import load_sklearn  # noqa: PLC0415

            return load_sklearn(path)
        if name == "XGBoost":
            from modelyard_runtime.engine.xgboost_engine import load_xgboost  # noqa: PLC0415

            return load_xgboost(path, self._threads)
        if name == "LightGBM":
            from modelyard_runtime.engine.lightgbm_engine import load_lightgbm  # noqa: PLC0415

            return load_lightgbm(path, self._threads)
        from modelyard_runtime.engine.mlflow_engine import load_mlflow  # noqa: PLC0415

        return load_mlflow(path, allow_pickle=self._config.allow_pickle)

    def _custom(self) -> Model:
        from modelyard_runtime.engine.custom_engine import load_custom  # noqa: PLC0415

        handler = self._required_handler()
        self._instance = handler.make(self.context, self._config.kwargs)
        inputs, outputs = _reaching_the_model(self._config, handler.hooks(self._instance))
        return load_custom(
            handler, self._instance, self.context, as_specs(inputs), as_specs(outputs)
        )

    def _torch(self) -> Model:
        from modelyard_runtime.engine import torch_loading  # noqa: PLC0415

        path, name = self._artifact.path, self._artifact.format
        placement = torch_loading.place(self._config, self._threads)
        self.context.device = placement.device.type
        if name in MADE_BY_CODE or (name == "TorchScript" and not is_script(path)):
            return self._eager(placement)
        return torch_loading.load_file(
            path, name, placement, allow_pickle=self._config.allow_pickle
        )

    def _eager(self, placement: Placement) -> Model:
        from modelyard_runtime.engine.torch_eager import load_eager  # noqa: PLC0415

        handler = self._required_handler()
        self._instance = handler.make(self.context, self._config.kwargs)
        inputs, outputs = _reaching_the_model(self._config, handler.hooks(self._instance))
        declared = as_specs(inputs), as_specs(outputs)
        return load_eager(
            handler, self._instance, self._artifact.path, placement, declared=declared
        )

    def _required_handler(self) -> Handler:
        artifact = self._artifact
        if self._handler is None:
            raise StartupError(
                Reason.INVALID_ARTIFACT,
                f"{artifact.path.name} is not TorchScript; it looks like saved weights or a "
                "pickled module"
                if artifact.format == "TorchScript"
                else f"{artifact.path.name} holds weights alone, and there is no handler.py",
                hint="Weights alone cannot run: put the module's class into handler.py beside "
                "them, or save the model with torch.export.save (.pt2).",
            )
        return self._handler


def _reaching_the_model(
    config: ModelConfig, hooks: Container[str]
) -> tuple[tuple[ModelTensor, ...], tuple[ModelTensor, ...]]:
    """Leave out what the hooks translate: it describes what callers send and get."""
    return (
        () if "preprocess" in hooks else config.inputs,
        () if "postprocess" in hooks else config.outputs,
    )


def _nothing() -> None:
    return


def _uncounted(name: str, amount: float) -> None:
    del name, amount
