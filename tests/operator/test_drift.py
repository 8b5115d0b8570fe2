import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard_operator.drift import QUANTITY, _amount, differs, stamp
from modelyard_operator.resources import labels
from modelyard_operator.resources.workload import build_workload
from testkit.operator_objects import model_deployment, revision_of

WORKLOAD = stamp(
    build_workload(
        owner := model_deployment(
            resources={"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
            runtime={"env": [{"name": "A", "value": "1"}]},
        ),
        revision_of(owner),
    )
)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        return [leaf for key, one in value.items() for leaf in _leaves(one, (*path, key))]
    if isinstance(value, list) and value:
        return [leaf for key, one in enumerate(value) for leaf in _leaves(one, (*path, key))]
    return [path]


LEAVES = _leaves(WORKLOAD)


def _as_stored(value: Any) -> Any:
    """Add what the API server adds: fields to every map, never items to a list of ours."""
    if isinstance(value, dict):
        return {"addedByServer": 1, **{key: _as_stored(one) for key, one in value.items()}}
    if isinstance(value, list):
        return [_as_stored(one) for one in value]
    return value


def test_what_the_api_server_gives_back_is_no_drift() -> None:
    assert not differs(WORKLOAD, copy.deepcopy(WORKLOAD))
    assert not differs(WORKLOAD, _as_stored(WORKLOAD))


@given(path=st.sampled_from(LEAVES), how=st.sampled_from(["changed", "removed"]))
def test_any_leaf_that_changes_is_drift(path: tuple[Any, ...], how: str) -> None:
    stored = _as_stored(WORKLOAD)
    *parents, last = path
    holder = stored
    for step in parents:
        holder = holder[step]
    if how == "changed":
        holder[last] = "somebody's"
    elif set(holder[last] if isinstance(holder[last], dict) else "x") == {"addedByServer"}:
        return  # the API server drops what is empty
    else:
        del holder[last]
    assert differs(WORKLOAD, stored)


@pytest.mark.parametrize(
    ("desired", "stored", "drift"),
    [
        ({}, None, False),
        ({}, "x", True),
        ({"a": {}}, {"a": {}}, False),
        ([], None, False),
        ([], ["x"], True),
        (["x"], None, True),
        (["x"], ["x", "y"], True),
        ({"a": None}, {}, False),
        ({"a": 1}, {"a": 2}, True),
        ("1", "1.0", True),
        ({"value": "1"}, {"value": "1.0"}, True),
        ({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}}, False),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "2"}}, True),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": 1}}, True),
        ({"limits": {"cpu": "much"}}, {"limits": {"cpu": "1"}}, True),
        ({"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {"sizeLimit": "1Gi"}}, False),
    ],
)
def test_leaf_by_leaf(desired: object, stored: object, drift: bool) -> None:  # noqa: FBT001
    assert differs(desired, stored) is drift


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", "1"),
        ("+1", "1"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("500m", "0.5"),
        ("100u", "0.0001"),
        ("100n", "0.0000001"),
        ("2k", "2000"),
        ("1e3", "1000"),
        ("1E-2", "0.01"),
        ("1E", "1000000000000000000"),
        ("1Ei", str(1024**6)),
        ("3Gi", str(3 * 1024**3)),
        ("1M", "1000000"),
        ("1T", "1000000000000"),
        ("1P", "1000000000000000"),
    ],
)
def test_quantities(text: str, amount: str) -> None:
    match = QUANTITY.fullmatch(text)
    assert match is not None
    assert _amount(match) == Decimal(amount)


@given(st.text(max_size=6))
def test_what_is_no_quantity_is_compared_to_the_letter(text: str) -> None:
    if QUANTITY.fullmatch(text) is None:
        assert differs({"limits": {"x": text}}, {"limits": {"x": text + "0"}})


def test_a_stamp_covers_the_manifest_and_keeps_annotations() -> None:
    bare = {"metadata": {"name": "x", "annotations": {"a": "b"}}, "spec": {"n": 1}}
    stamped = stamp(bare)
    assert stamped["metadata"]["annotations"].keys() == {"a", labels.APPLIED_HASH}
    assert bare["metadata"] == {"name": "x", "annotations": {"a": "b"}}
    assert stamp({**bare, "spec": {"n": 2}})["metadata"] != stamped["metadata"]
    assert stamp({"spec": {"n": 1}, "metadata": bare["metadata"]}) == stamped
    # A field that is not wanted any more: nothing of ours differs, but the stamp does.
    assert differs(stamp({**bare, "spec": {}}), stamped)
