import math
from typing import Any

import pytest

from demo.load import parse
from demo.samples import Sample, percentile, summarize


def _sample(**changes: Any) -> Sample:
    return Sample(10.0, 2.0, 200, "1", "digits-aaaa", correct=True)._replace(**changes)


def test_shares_and_accuracy_come_from_the_versions_that_answered() -> None:
    samples = [_sample()] * 6 + [_sample(correct=False)] * 2 + [_sample(version="2")] * 2
    summary = summarize(samples)
    assert summary.share("2") == pytest.approx(20)
    assert summary.accuracy("1") == pytest.approx(0.75)
    assert summary.accuracy("2") == pytest.approx(1)
    assert (summary.requests, summary.failed) == (10, 0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"status": 503, "error": "no backend"}, "503: no backend"),
        ({"status": 0, "error": "ServerDisconnectedError: gone"}, "no answer: ServerDisc"),
        ({"version": ""}, "200: not said by whom"),
        ({"revision": ""}, "200: not said by whom"),
    ],
)
def test_what_a_client_cannot_use_is_a_failure(changes: dict[str, Any], told: str) -> None:
    summary = summarize([_sample(), _sample(**changes)])
    assert (summary.requests, summary.failed) == (2, 1)
    assert summary.answers == {"1": 1}
    assert summary.errors[0].startswith(told)


def test_without_requests_nothing_is_claimed() -> None:
    summary = summarize([])
    assert summary.requests == 0
    assert math.isnan(summary.p99_ms)
    assert math.isnan(summary.share("1"))
    assert math.isnan(summary.accuracy("1"))


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 50) == pytest.approx(50)
    assert percentile(values, 99) == pytest.approx(99)
    assert percentile([7.0], 99) == pytest.approx(7)


def test_samples_survive_the_way_from_client_to_driver() -> None:
    line = '[[1.5, 2.25, 200, "2", "digits-bbbb", true, ""]]\n'
    assert parse(line * 2) == [Sample(1.5, 2.25, 200, "2", "digits-bbbb", correct=True)] * 2
