import copy
from typing import Any

import pytest

from modelyard_operator.errors import ChildRejectedError, InvalidSpecError
from modelyard_operator.resources import labels
from modelyard_operator.resources.service import build_revision_service
from modelyard_operator.store import Key, Store, controller_uid, owner_key, slim
from testkit.operator_objects import live, pod, raw_model_deployment, revision_of
from testkit.operator_objects import model_deployment as parsed

KEY = Key("ml", "fraud")
OWNER = raw_model_deployment()
NONE: frozenset[str] = frozenset()


def service(version: int = 1, uid: str = "one", **change: Any) -> dict[str, Any]:
    owner = parsed()
    made = live(
        build_revision_service(owner, revision_of(owner).name, encrypted=False), version=version
    )
    made["metadata"]["uid"] = uid
    return made | change


@pytest.fixture
def store() -> Store:
    store = Store()
    assert store.put(OWNER) == KEY
    return store


def place() -> tuple[str, str]:
    return "Service", service()["metadata"]["name"]


def test_news_concern_the_owner_and_echoes_nobody(store: Store) -> None:
    assert store.put(service(5)) == KEY
    assert store.put(service(5)) is None
    assert store.put(service(4)) is None
    assert store.put(service(6)) == KEY
    held = store.get(KEY, place())
    assert held is not None
    assert held["metadata"]["resourceVersion"] == "6"


def test_what_is_being_deleted_is_no_work_any_more(store: Store) -> None:
    leaving = copy.deepcopy(OWNER)
    leaving["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "99"}
    assert store.observe(KEY) is not None
    assert store.put(leaving) == KEY
    assert store.observe(KEY) is None


def test_versions_are_numbers(store: Store) -> None:
    store.put(service(9))
    assert store.put(service(10)) == KEY


def test_a_recreated_object_replaces_the_old_one_and_not_the_reverse(store: Store) -> None:
    store.put(service(5, "one"))
    assert store.put(service(8, "two")) == KEY
    assert store.put(service(6, "one")) is None  # late news of the object that is gone
    assert store.remove(service(7, "one")) is None
    held = store.get(KEY, place())
    assert held is not None
    assert held["metadata"]["uid"] == "two"


def test_objects_without_the_label_are_nobody_s(store: Store) -> None:
    stray = service()
    stray["metadata"]["labels"] = None
    assert owner_key(stray) is None
    assert store.put(stray) is None
    assert store.remove(stray) is None


def test_removing_forgets(store: Store) -> None:
    store.put(service())
    assert store.remove(service()) == KEY
    assert store.remove(service()) is None
    assert store.get(KEY, place()) is None
    store.reject(KEY, 1, ChildRejectedError("no"))
    assert store.remove(OWNER) == KEY
    assert store.observe(KEY) is None
    assert store.model_deployments() == []
    store.put(OWNER)
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.rejection is None


def test_an_observation_holds_what_the_object_owns(store: Store) -> None:
    mine, theirs = service(), service()
    theirs["metadata"] |= {"name": "theirs", "uid": "two"}
    theirs["metadata"]["ownerReferences"] = [
        {"uid": OWNER["metadata"]["uid"]},
        {"uid": "other", "controller": True},
    ]
    store.put(mine)
    store.put(theirs)
    store.put(pod("fraud-a"))
    observed = store.observe(KEY)
    assert observed is not None
    assert list(observed.children) == [place()]
    assert [one["metadata"]["name"] for one in observed.pods] == ["fraud-a-abc12"]
    assert controller_uid(theirs) == "other"
    assert controller_uid(pod("fraud-a")) is None


def test_a_rejection_counts_for_its_generation(store: Store) -> None:
    error = ChildRejectedError("no")
    store.reject(KEY, 1, error)
    first = store.observe(KEY)
    assert first is not None
    assert first.rejection is error
    store.reject(KEY, 2, error)
    second = store.observe(KEY)
    assert second is not None
    assert second.rejection is None
    store.reject(KEY, 0, None)
    store.reject(KEY, 0, None)


def test_an_object_that_does_not_parse_says_so(store: Store) -> None:
    raw = copy.deepcopy(OWNER)
    raw["metadata"]["resourceVersion"] = "2"
    raw["spec"] = {"replicas": 1}
    store.put(raw)
    with pytest.raises(InvalidSpecError, match=r"spec\.model"):
        store.observe(KEY)


def test_a_sweep_finds_what_the_watch_has_missed(store: Store) -> None:
    store.put(service())
    other = raw_model_deployment("other")
    assert store.replace("Service", [], store.uids("Service")) == {KEY}
    assert store.replace("ModelDeployment", [OWNER, other], store.uids("ModelDeployment")) == {
        Key("ml", "other")
    }
    assert store.replace("ModelDeployment", [other], store.uids("ModelDeployment")) == {KEY}
    assert store.model_deployments() == [Key("ml", "other")]


def test_a_sweep_at_rest_concerns_nobody(store: Store) -> None:
    store.put(service())
    store.put(pod("fraud-a"))
    assert store.replace("Service", [service()], store.uids("Service")) == set()


def test_a_sweep_leaves_what_came_and_went_while_it_listed(store: Store) -> None:
    store.put(service(1, "one"))
    before = store.uids("Service")
    listed = [service(1, "one")]
    store.remove(service(1, "one"))
    fresh = service(9, "two")
    fresh["metadata"]["name"] = "fresh"
    store.put(fresh)
    assert store.replace("Service", listed, before) == set()
    assert store.get(KEY, place()) is None
    assert store.get(KEY, ("Service", "fresh")) is not None


def test_slim_keeps_what_is_looked_at() -> None:
    fat = {**pod("fraud-a"), "spec": {"containers": []}}
    fat["metadata"]["managedFields"] = [{"manager": "kubelet", "fieldsV1": {}}]
    assert slim(fat).keys() == {"kind", "metadata", "status"}
    assert "managedFields" not in slim(fat)["metadata"]
    settings = {"kind": "ConfigMap", "metadata": {"managedFields": [{"time": "t", "fieldsV1": 1}]}}
    assert slim(settings)["metadata"] == {"managedFields": [{"time": "t"}]}
    assert "managedFields" in fat["metadata"], "the watch's own object is not changed"
    assert labels.SELECTOR.endswith("modelyard")
