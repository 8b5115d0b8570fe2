"""A sample of benchmarks/analysis: the shipped code against rules of others, over simulated requests."""

import importlib
from typing import Any

import pytest

from testkit.crd import ROOT


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "analysis"))
    return importlib.import_module("bench")


def test_healthy_canaries_stay_where_others_fall_and_bad_ones_go_at_once(bench: Any) -> None:
    healthy, bad = bench.Cell(5, 0.005, 0.005), bench.Cell(5, 0.01, 0.2)
    assert bench.measure(healthy, bench.Shipped, 4).rolled_back == 0.0
    assert bench.measure(healthy, bench.FlaggerLike, 16).rolled_back > 0.5
    assert bench.measure(healthy, bench.ArgoLike, 16).rolled_back > 0.25
    found = bench.measure(bad, bench.Shipped, 20)
    assert found.rolled_back == 1.0
    assert found.minute <= 5


def test_nineteen_of_twenty_bad_canaries_are_found_within_a_minute(bench: Any) -> None:
    """20 requests a second, 20 % errors at 10 %; five seconds to settle and five between scrapes."""
    rng = bench.np.random.default_rng(bench.SEED)
    times: list[float] = []
    for _ in range(200):
        rule, traffic = bench.Shipped(), bench.Traffic(bench.Cell(20, 0.0, 0.2), rng, 600)
        rule.begin_step(0)
        at_s = 5
        while not rule.see(traffic.interval(at_s, 10), at_s + 5):
            at_s += 5
        times.append(at_s + 5)
    assert sorted(times)[189] < 60


@pytest.mark.slow
def test_an_outage_of_both_arms_blames_nobody(bench: Any) -> None:
    outage = bench.Cell(50, 0.002, 0.002, outage=True)
    assert bench.measure(outage, bench.Shipped, 60).rolled_back <= 0.02
    assert bench.measure(outage, bench.FlaggerLike, 60).rolled_back > 0.9
