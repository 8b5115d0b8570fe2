"""Series per model, their life, and what a scrape shows."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from modelyard_runtime.batching.calls import BatchReport
from modelyard_runtime.lifecycle import State
from modelyard_runtime.metrics import RuntimeMetrics
from modelyard_runtime.resident import resident_bytes
from modelyard_runtime.service import Service
from modelyard_runtime.settings import RuntimeSettings
from modelyard_runtime.status_server import StatusServer
from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def metrics() -> RuntimeMetrics:
    return RuntimeMetrics(RuntimeSettings(model_name="m", model_version="8", revision="m-1"))


def value(
    metrics: RuntimeMetrics, name: str, model: str, version: str, **more: str
) -> float | None:
    labels = {"model": model, "version": version, "revision": "m-1", **more}
    return metrics.registry.get_sample_value(f"modelyard_{name}", labels)


def series(metrics: RuntimeMetrics, model: str) -> list[str]:
    return [
        sample.name
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.labels.get("model") == model
    ]


def test_each_model_has_its_own_series(metrics: RuntimeMetrics) -> None:
    other = metrics.model("other", "2")
    other.request_done("grpc", 200, 0.02)
    other.request_done("grpc", 200, 0.02)
    metrics.own.request_done("rest", 429, 0.001)
    metrics.own.rejected("queue_full")
    codes = {"protocol": "grpc", "code": "200"}
    assert value(metrics, "requests_total", "other", "2", **codes) == 2
    assert value(metrics, "request_duration_seconds_bucket", "other", "2", le="0.025") == 2
    assert value(metrics, "requests_total", "m", "8", protocol="rest", code="429") == 1
    assert value(metrics, "rejected_total", "m", "8", reason="queue_full") == 1
    assert value(metrics, "rejected_total", "other", "2", reason="queue_full") is None


def test_an_unloaded_model_leaves_no_series(metrics: RuntimeMetrics) -> None:
    before = series(metrics, "m")
    other = metrics.model("other", "2")
    other.request_done("rest", 200, 0.02)
    other.batch_done(
        BatchReport(rows=3, requests=2, run_s=0.1, trigger="full", bisections=1, poisoned=1)
    )
    other.padded(0.25)
    other.cached(hit=True)
    other.cached(hit=False)
    other.loaded(1)
    other.memory("engine", lambda: 5)
    other.first_output(0.1)
    other.invalid_output()
    other.stages(decode_s=1, wait_s=2, encode_s=3)
    other.entered(State.READY, State.LOADING)
    other.follow("queue_requests", lambda: 4)
    assert value(metrics, "queue_requests", "other", "2") == 4
    assert value(metrics, "model_state", "other", "2", state="Ready") == 1
    other.close()
    other.close()
    assert series(metrics, "other") == []
    assert series(metrics, "m") == before


def test_a_replaced_model_goes_on_counting(metrics: RuntimeMetrics) -> None:
    old = metrics.model("other", "2")
    old.request_done("rest", 200, 0.02)
    old.follow("queue_requests", lambda: 3)
    old.follow("controller_max_batch", lambda: 16)
    new = metrics.model("other", "2")
    new.follow("queue_requests", lambda: 4)
    new.follow("controller_max_batch", lambda: 32)
    assert value(metrics, "queue_requests", "other", "2") == 7
    assert value(metrics, "controller_max_batch", "other", "2") == 32
    old.close()
    new.request_done("rest", 200, 0.02)
    codes = {"protocol": "rest", "code": "200"}
    assert value(metrics, "requests_total", "other", "2", **codes) == 2
    assert value(metrics, "queue_requests", "other", "2") == 4
    new.close()
    assert series(metrics, "other") == []


def test_the_process_counts_for_itself(metrics: RuntimeMetrics) -> None:
    metrics.follow_inflight(lambda: 7)
    metrics.entered(State.LOADING, State.STARTING)
    metrics.shadow("requests")
    metrics.audit_dropped()
    metrics.loop_lag(0.02)
    assert value(metrics, "inflight_requests", "m", "8") == 7
    assert value(metrics, "model_state", "m", "8", state="Loading") == 1
    assert value(metrics, "model_state", "m", "8", state="Starting") == 0
    assert value(metrics, "shadow_requests_total", "m", "8") == 1
    assert value(metrics, "shadow_errors_total", "m", "8") == 0
    sample = metrics.registry.get_sample_value
    assert sample("modelyard_audit_dropped_total") == 1
    assert sample("modelyard_event_loop_lag_seconds_bucket", {"le": "0.05"}) == 1


def test_exemplars_go_to_who_asks_for_openmetrics(metrics: RuntimeMetrics) -> None:
    metrics.own.request_done("rest", 200, 0.02, "ab" * 16)
    metrics.own.request_done("rest", 200, 0.3)
    server = StatusServer(0, dict, metrics.registry, host="127.0.0.1")
    try:
        url = f"http://127.0.0.1:{server.port}/metrics"
        plain = httpx.get(url)
        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        rich = httpx.get(url, headers={"Accept": accept})
        assert rich.headers["content-type"].startswith("application/openmetrics-text")
    finally:
        server.close()
    assert "trace_id" not in plain.text
    exemplars = {
        sample.labels["le"]: sample.exemplar.labels
        for family in text_string_to_metric_families(rich.text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.name == "modelyard_request_duration_seconds_bucket" and sample.exemplar
    }
    assert exemplars == {"0.025": {"trace_id": "ab" * 16}}


async def test_the_tasks_of_the_event_loop_are_counted(tmp_path: Path) -> None:
    async with serving(models.linear_onnx(tmp_path / "m.onnx")) as (_, service):
        read = service.metrics.registry.get_sample_value
        before = read("modelyard_event_loop_tasks")
        waiting = [asyncio.create_task(asyncio.Event().wait()) for _ in range(3)]
        assert before is not None
        assert read("modelyard_event_loop_tasks") == before + 3
        for task in waiting:
            task.cancel()


def gauges(metrics: RuntimeMetrics, prefix: str) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name.startswith(prefix)
    }


class Cuda:
    """As much of ``torch.cuda`` as is asked."""

    initialized = True

    def is_initialized(self) -> bool:
        return self.initialized

    def device_count(self) -> int:
        return 1

    def mem_get_info(self, device: int) -> tuple[int, int]:
        assert device == 0
        return 30, 100

    def memory_allocated(self, device: int) -> int:
        return 10 + device

    def memory_reserved(self, device: int) -> int:
        return 20 + device


def test_gpus_are_read_where_torch_uses_them(
    metrics: RuntimeMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert gauges(metrics, "modelyard_gpu") == {}
    assert "torch" not in sys.modules
    cuda = Cuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert gauges(metrics, "modelyard_gpu") == {
        "modelyard_gpu_memory_total_bytes": 100,
        "modelyard_gpu_memory_used_bytes": 70,
        "modelyard_gpu_memory_allocated_bytes": 10,
        "modelyard_gpu_memory_reserved_bytes": 20,
    }
    cuda.initialized = False
    assert gauges(metrics, "modelyard_gpu") == {}


def test_a_gpu_that_cannot_be_read_breaks_no_scrape(
    metrics: RuntimeMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(device: int) -> tuple[int, int]:
        raise RuntimeError(f"CUDA error: device {device} is lost")

    cuda = Cuda()
    monkeypatch.setattr(cuda, "mem_get_info", lost)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert gauges(metrics, "modelyard_gpu") == {}
    assert gauges(metrics, "modelyard_build_info") == {"modelyard_build_info": 1}


async def test_every_model_says_how_it_stands(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name / "1"
        folder.mkdir(parents=True)
        models.linear_onnx(folder / "model.onnx")
    service = Service(RuntimeSettings(model_repository=tmp_path, threads=1))
    await service.start()

    def read(name: str, model: str, **more: str) -> float | None:
        labels = {"model": model, "version": "1", "revision": "", **more}
        return service.metrics.registry.get_sample_value(f"modelyard_{name}", labels)

    for model in ("a", "b"):
        assert read("model_state", model, state="Ready") == 1
        assert (read("model_load_seconds", model) or 0) > 0
    service.drain()
    assert read("model_state", "a", state="Ready") == 0
    assert read("model_state", "a", state="Draining") == 1
    service.close()


def test_resident_memory_is_read() -> None:
    assert resident_bytes(os.getpid()) > 1_000_000
    assert math.isnan(resident_bytes(2**22 + 1))
