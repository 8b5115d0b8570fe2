"""What the GPUs of the process are doing; nothing, and no library, where there is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry, Metric

_log = structlog.stdlib.get_logger(__name__)

_FAMILIES: Final = {
    "memory_total_bytes": "Memory of the GPU.",
    "memory_used_bytes": "Memory of the GPU that any process uses.",
    "memory_allocated_bytes": "Memory of the GPU that this process's tensors occupy.",
    "memory_reserved_bytes": "Memory of the GPU that this process keeps for tensors.",
}


class GpuCollector(Collector):
    """Asks torch, once it uses CUDA, at every scrape.

    Args:
        registry: Where it is registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Name nothing before the first scrape: there may be no GPU.

        Returns:
            Nothing.
        """
        return []

    def collect(self) -> Iterable[Metric]:
        """Read the gauges.

        Yields:
            One family a reading, one sample a GPU.
        """
        # Whoever uses a GPU has imported torch already; a scrape must not.
        torch = sys.modules.get("torch")
        cuda = getattr(torch, "cuda", None)
        if cuda is None or not cuda.is_initialized():
            return
        families = {
            name: GaugeMetricFamily(f"modelyard_gpu_{name}", text, labels=["device"])
            for name, text in _FAMILIES.items()
        }
        for device in range(cuda.device_count()):
            try:
                readings = _readings(cuda, device)
            except RuntimeError as error:  # of which every CUDA error is one
                _log.warning("gpu cannot be read", device=device, problem=str(error)[:300])
                continue
            for name, value in readings.items():
                families[name].add_metric([str(device)], value)
        yield from families.values()


def _readings(cuda: Any, device: int) -> dict[str, float]:
    free, total = cuda.mem_get_info(device)
    return {
        "memory_total_bytes": total,
        "memory_used_bytes": total - free,
        "memory_allocated_bytes": cuda.memory_allocated(device),
        "memory_reserved_bytes": cuda.memory_reserved(device),
    }
