import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from modelyard_operator.analysis.counters import INVALID_OUTPUT, REQUESTS, Series
from modelyard_operator.errors import ScrapeError
from modelyard_operator.sources import PodSource, PrometheusSource
from testkit.operator_objects import pod
from testkit.operator_pods import AnsweringPod, AnsweringPods

PODS = [pod("fraud-1", "a", podIP="10.0.0.1"), pod("fraud-1", "b", podIP="10.0.0.2")]


class Prometheus(AnsweringPods):
    """Answers a query with what a test wants, by a part of the query."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__()
        self.answers = answers
        self.seen: list[str] = []

    async def get(self, url: str) -> str:
        parts = urlsplit(url)
        assert (parts.netloc, parts.path) == ("prometheus:9090", "/api/v1/query")
        query = parse_qs(parts.query)["query"][0]
        self.seen.append(query)
        for part, answer in self.answers.items():
            if part in query:
                return answer if isinstance(answer, str) else json.dumps({"data": answer})
        return json.dumps({"data": vector()})


def vector(*samples: tuple[dict[str, str], str]) -> dict[str, Any]:
    result = [{"metric": metric, "value": [1700000000, value]} for metric, value in samples]
    return {"resultType": "vector", "result": result}


def source(**answers: Any) -> PrometheusSource:
    return PrometheusSource(Prometheus(answers), "http://prometheus:9090/", "ml")


async def test_pods_are_read_by_uid_and_a_broken_one_left_out() -> None:
    pods = AnsweringPods()
    pods.pods = {"10.0.0.1": AnsweringPod("fraud-1"), "10.0.0.2": AnsweringPod("fraud-1")}
    pods.pods["10.0.0.1"].count(3, 1)
    pods.pods["10.0.0.2"].revision = '"'
    found = await PodSource(pods).read("fraud-1", PODS, (REQUESTS,))
    assert found["uid-pod-a"] == {Series(REQUESTS, "200"): 3.0, Series(REQUESTS, "500"): 1.0}


async def test_pods_of_which_none_answers_are_an_error_and_no_pods_are_none() -> None:
    with pytest.raises(ScrapeError, match="none of 2 pods of fraud-1 answers"):
        await PodSource(AnsweringPods()).read("fraud-1", PODS, (REQUESTS,))
    assert await PodSource(AnsweringPods()).read("fraud-1", [], (REQUESTS,)) == {}
    assert await PodSource(AnsweringPods()).read("fraud-1", [pod("fraud-1")], (REQUESTS,)) == {}


async def test_prometheus_gives_the_same_by_pod() -> None:
    prometheus = source(
        modelyard_requests_total=vector(
            ({"pod": "a", "code": "200"}, "30"), ({"pod": "b", "code": "500"}, "2")
        ),
        modelyard_invalid=vector(({"pod": "a"}, "1")),
    )
    found = await prometheus.read("fraud-1", PODS, (REQUESTS, INVALID_OUTPUT))
    assert found == {
        "a": {Series(REQUESTS, "200"): 30.0, Series(INVALID_OUTPUT): 1.0},
        "b": {Series(REQUESTS, "500"): 2.0},
    }
    assert isinstance(prometheus.scraper, Prometheus)
    assert prometheus.scraper.seen[0] == (
        'sum by (pod, code, le) (modelyard_requests_total{namespace="ml",revision="fraud-1"})'
    )
    assert prometheus.interval > timedelta(seconds=15)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (vector(({}, "0.25")), 0.25),
        ({"resultType": "scalar", "result": [1700000000, "0.5"]}, 0.5),
        (vector(), None),
        (vector(({}, "NaN")), None),
        (vector(({}, "+Inf")), None),
        (vector(({"a": "1"}, "0.1"), ({"a": "2"}, "0.2")), None),
    ],
)
async def test_a_query_has_one_finite_value_or_none(answer: Any, value: float | None) -> None:
    prometheus = source(drift=answer)
    assert await prometheus.value('drift{r="{{revision}}"}', "fraud-1") == value
    assert isinstance(prometheus.scraper, Prometheus)
    assert prometheus.scraper.seen == ['drift{r="fraud-1"}']


@pytest.mark.parametrize("answer", ["<html>", "{}", '{"data": []}', '{"data": {"resultType": 1}}'])
async def test_another_answer_is_an_error(answer: str) -> None:
    with pytest.raises(ScrapeError, match="expected a vector or a scalar"):
        await source(drift=answer).value("drift", "fraud-1")


async def test_without_an_address_the_setting_is_named() -> None:
    with pytest.raises(ScrapeError, match="MODELYARD_OPERATOR_PROMETHEUS_URL"):
        await PrometheusSource(AnsweringPods(), "", "ml").value("drift", "fraud-1")
