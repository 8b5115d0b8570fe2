from typing import Any, cast

import kopf
import pytest

from modelyard_operator.errors import (
    ClusterForbiddenError,
    ClusterGoneError,
    ModelyardOperatorError,
)
from modelyard_operator.handlers import DEBOUNCE_S, Operator, configure
from modelyard_operator.kinds import OPTIONAL_KINDS, OWNED_KINDS
from modelyard_operator.resources import labels
from modelyard_operator.store import Key
from testkit.operator_cluster import RecordingCluster
from testkit.operator_objects import config_map, operator_settings, pod

READER = Key("ml", "reader")


class Queue:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Key, float]] = []

    def add(self, key: Key, delay_s: float = 0.0) -> None:
        self.asked.append((key, delay_s))


def noted(kind: str, *objects: dict[str, Any]) -> list[tuple[Key, float]]:
    """What an operator, of which one model reads `hooks`, is asked for after some events."""
    queue = Queue()
    operator = Operator(operator_settings(), queue=cast("Any", queue))
    operator.store.references.name(READER, frozenset({"hooks"}))
    for one in objects:
        operator.note(cast("kopf.RawEvent", {"type": kind, "object": one}))
    return queue.asked


def test_an_event_asks_for_work_on_the_owner() -> None:
    assert noted("ADDED", pod("fraud-a")) == [(Key("ml", "fraud"), DEBOUNCE_S)]


def test_a_config_map_of_a_user_concerns_those_that_name_it() -> None:
    assert noted("ADDED", config_map("stranger")) == []
    assert noted("MODIFIED", config_map("hooks")) == [(READER, DEBOUNCE_S)]
    assert noted("DELETED", config_map("hooks")) == [(READER, DEBOUNCE_S)]


@pytest.mark.parametrize("error", [ClusterGoneError, ClusterForbiddenError])
async def test_kinds_that_a_cluster_need_not_have_may_be_absent(
    error: type[ModelyardOperatorError],
) -> None:
    cluster = RecordingCluster()
    route = pod("fraud-a") | {"kind": "HTTPRoute"}
    cluster.objects["HTTPRoute", "fraud"] = route
    cluster.failing["list", "BackendTrafficPolicy"] = error("there is none")
    operator = Operator(operator_settings())
    assert await operator._absent(cluster) == {"BackendTrafficPolicy"}
    assert operator.store.uids("HTTPRoute") == {route["metadata"]["uid"]}


def test_all_but_config_maps_are_watched_by_label() -> None:
    settings = kopf.OperatorSettings()
    configure(settings)
    selectors = settings.watching.label_selectors
    assert set(selectors.values()) == {labels.SELECTOR}
    assert {selector.any_name for selector in selectors} == {
        kind.plural for kind in (*OWNED_KINDS, *OPTIONAL_KINDS) if kind.name != "ConfigMap"
    }
