"""Loaded model → warm model → model with a queue: the steps between a file and a service."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from modelyard_runtime.batching.batcher import Batcher
from modelyard_runtime.batching.calls import BatchLimits
from modelyard_runtime.config import CONFIG_FILE, read_config
from modelyard_runtime.engine.process_engine import ProcessModel
from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.inference import ServedModel, declared_outputs
from modelyard_runtime.loading import load_models
from modelyard_runtime.model_calls import ModelCalls
from modelyard_runtime.model_statistics import Statistics
from modelyard_runtime.resident import resident_bytes
from modelyard_runtime.sequences import sequences_of
from modelyard_runtime.settings import MODEL_NAME_PATTERN
from modelyard_runtime.warming import warm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modelyard_runtime.config import ModelConfig
    from modelyard_runtime.engine.protocol import Arrays, Model
    from modelyard_runtime.hooks import Hooks
    from modelyard_runtime.loading import Loaded
    from modelyard_runtime.metrics import RuntimeMetrics
    from modelyard_runtime.model_metrics import ModelMetrics
    from modelyard_runtime.settings import RuntimeSettings
    from modelyard_runtime.warming import Warmth

_log = structlog.stdlib.get_logger(__name__)

INLINE_FORWARD_S: Final = 0.0005
"""A full batch shorter than this runs on the event loop: handing it to a thread costs as much."""


_USERS_CODE: Final = frozenset({"Custom", "MLflow"})


def models_in(repository: Path) -> dict[str, Path]:
    """List the models of a repository.

    Args:
        repository: A folder with one folder per model.

    Returns:
        Served name → its folder; what cannot be a name in a URL is left out.
    """
    if not repository.is_dir():
        return {}
    return {
        place.name: place
        for place in sorted(repository.iterdir())
        if place.is_dir() and re.fullmatch(MODEL_NAME_PATTERN, place.name)
    }


@dataclass(frozen=True, slots=True)
class Prepared:
    """One version of a model, warm.

    Attributes:
        version: Its version in the repository.
        hooks: The model, its configuration, and the hooks around it.
        warmth: What warming found out.
    """

    version: str
    hooks: Hooks
    warmth: Warmth


def prepare(
    name: str,
    place: Path,
    settings: RuntimeSettings,
    metrics: RuntimeMetrics,
    *,
    on_warming: Callable[[], None],
) -> list[Prepared]:
    """Load and warm a model; takes as long as it takes.

    Args:
        name: The served name.
        place: Its file or folder.
        settings: How it is to run.
        metrics: Where its handler counts.
        on_warming: Told when loading is done and warming begins.

    Returns:
        Every version that is to be served.

    Raises:
        StartupError: With the reason of the contract.
    """
    config = read_config(place, settings)
    if settings.model_name is None and config.name not in {None, name}:
        raise StartupError(
            Reason.INVALID_SETTINGS,
            f"{name}/{CONFIG_FILE}: name is {config.name!r}, the folder is called {name!r}",
            hint="Call the folder like the model, or leave name out.",
        )

    def count_of(version: str) -> Callable[[str, float], None]:
        return metrics.counters(name, _label(name, version, settings))

    loaded = load_models(place, settings, config, count_of)
    on_warming()
    try:
        return [_warmed(each) for each in loaded]
    except BaseException:
        for each in loaded:
            each.hooks.close()
            each.model.close()
        raise


def _warmed(loaded: Loaded) -> Prepared:
    model, hooks = loaded.model, loaded.hooks
    config = loaded.config
    sequences = sequences_of(model, config)
    begin = model.warm if isinstance(model, ProcessModel) else partial(warm, model)
    warmth = begin(
        max_rows=_most_rows(model, config),
        buckets=_row_buckets(model, config),
        iterations=config.warmup.iterations,
        optimize=config.optimize,
        lengths=sequences.buckets if sequences else (),
    )
    model.batched = warmth.batched
    if warmth.outputs is not None:
        model.outputs = declared_outputs(model.outputs, warmth.outputs)
        hooks.learn_outputs(warmth.outputs)
    return Prepared(loaded.artifact.version, hooks, warmth)


def put_in_service(
    name: str, prepared: Prepared, settings: RuntimeSettings, metrics: RuntimeMetrics
) -> ServedModel:
    """Put a queue in front of a warm model.

    Args:
        name: The served name.
        prepared: The model.
        settings: Sizes and waits.
        metrics: Where its series are opened.

    Returns:
        The model, answering.
    """
    hooks, warmth = prepared.hooks, prepared.warmth
    model, config = hooks.model, hooks.config
    batching = config.batching
    buckets = _row_buckets(model, config) if model.batched else ()
    limits = BatchLimits(
        max_rows=_most_rows(model, config) if model.batched else 1,
        max_delay_s=batching.max_delay_ms / 1000,
        target_s=batching.target_latency_ms and batching.target_latency_ms / 1000,
        buckets=buckets,
        max_queue=config.queue.max_requests,
        max_bytes=config.queue.max_bytes,
        inline=_runs_inline(model, warmth),
    )
    series = metrics.model(name, _label(name, prepared.version, settings))
    statistics = Statistics(series)
    calls = ModelCalls(
        model, buckets=buckets, sequences=sequences_of(model, config), on_padded=series.padded
    )
    batcher: Batcher[Arrays, Arrays] = Batcher(calls, limits, observer=statistics)
    _follow(batcher, series)
    if isinstance(model, ProcessModel):
        series.memory("engine", lambda: resident_bytes(model.pid))
    served = ServedModel(name, prepared.version, hooks, batcher, statistics, series)
    _log.info("model ready", model=name, **_described(model, limits))
    return served


def _runs_inline(model: Model, warmth: Warmth) -> bool:
    """Only what is sure to be short: users' code and texts may take any time, a process may hang."""
    if warmth.forward_s is None or warmth.forward_s >= INLINE_FORWARD_S:
        return False
    if isinstance(model, ProcessModel) or model.format in _USERS_CODE:
        return False
    return all(spec.datatype != "BYTES" for spec in model.inputs)


def _follow(batcher: Batcher[Arrays, Arrays], series: ModelMetrics) -> None:
    series.follow("queue_requests", lambda: batcher.queued)
    series.follow("queue_bytes", lambda: batcher.queued_bytes)
    series.follow("controller_max_batch", lambda: batcher.cap)
    series.follow("controller_wait_seconds", lambda: batcher.wait_s)
    series.follow("controller_predicted_drain_seconds", lambda: batcher.drain_s)


def _described(model: Model, limits: BatchLimits) -> dict[str, Any]:
    return {
        "format": model.format,
        "device": model.device,
        "batched": model.batched,
        "max_rows": limits.max_rows,
        "inline": limits.inline,
    }


def _label(name: str, version: str, settings: RuntimeSettings) -> str:
    """In a pod the label is the user's word for the version; a folder of models has its own."""
    labelled = name == settings.model_name and "model_version" in settings.model_fields_set
    return settings.model_version if labelled else version


def _most_rows(model: Model, config: ModelConfig) -> int:
    """A batch holds at most what the largest bucket does, so that every batch has one."""
    buckets = _row_buckets(model, config)
    return buckets[-1] if buckets else _allowed_rows(model, config)


def _row_buckets(model: Model, config: ModelConfig) -> tuple[int, ...]:
    most, buckets = _allowed_rows(model, config), config.batching.buckets
    if buckets and buckets[0] > most:
        raise StartupError(
            Reason.INVALID_SETTINGS,
            f"batching.buckets: the smallest is {buckets[0]}, a batch may hold {most} rows",
            hint="Raise batching.max_size, or name a smaller bucket.",
        )
    return tuple(rows for rows in buckets if rows <= most)


def _allowed_rows(model: Model, config: ModelConfig) -> int:
    return min(config.batching.max_size, model.max_rows or config.batching.max_size)
