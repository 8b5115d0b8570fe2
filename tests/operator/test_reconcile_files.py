"""A model whose handler lies in a ConfigMap of the user's: looked up, copied, and followed."""

import pytest

from modelyard_operator.errors import ChildRejectedError, ClusterRejectedError
from testkit.operator_cluster import Bench
from testkit.operator_objects import EXPOSED, QUICK, config_map, raw_model_deployment


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A model whose handler lies in a ConfigMap of the user's."""
    ref = {"configMapName": "hooks", "key": "handler.py"}
    raw = raw_model_deployment(exposure=EXPOSED, rollout=QUICK, runtime={"handlerRef": ref})
    bench = Bench(raw, monkeypatch)
    bench.put(config_map("hooks", handler_py="x = 1"))
    return bench


def files(bench: Bench, role: str) -> dict[str, str]:
    revision = bench.status[role]["revision"]
    made: dict[str, str] = bench.cluster.objects["ConfigMap", f"{revision}-files"]["data"]
    return made


async def test_a_handler_is_looked_up_once_and_copied(handled: Bench) -> None:
    await handled.rest()
    assert files(handled, "stable") == {"handler.py": "x = 1"}
    assert handled.cluster.reads == ["hooks"]
    handled.cluster.writes.clear()
    handled.restart()
    assert await handled.once() is None
    assert handled.cluster.writes == []


async def test_an_edit_of_the_config_map_is_a_canary(handled: Bench) -> None:
    await handled.rest()
    old = handled.status["stable"]["revision"]
    handled.put(config_map("hooks", handler_py="x = 2"))
    await handled.until("Analyzing", 50)
    assert handled.status["stable"]["revision"] == old
    assert files(handled, "stable") == {"handler.py": "x = 1"}
    assert files(handled, "candidate") == {"handler.py": "x = 2"}
    await handled.rest()
    assert files(handled, "stable") == {"handler.py": "x = 2"}
    handled.put(config_map("hooks", handler_py="x = 1"))
    await handled.rest()
    assert handled.status["stable"]["revision"] == old


async def test_without_its_config_map_a_model_goes_on_and_says_what_is_missing(
    handled: Bench,
) -> None:
    await handled.rest()
    stable = handled.status["stable"]["revision"]
    gone = handled.cluster.objects.pop(("ConfigMap", "hooks"))
    gone["metadata"]["resourceVersion"] = str(handled.cluster.next_version())
    assert handled.store.note_config_map(gone, deleted=True) == {handled.key}
    handled.cluster.writes.clear()
    await handled.rest()
    assert {verb for verb, *_ in handled.cluster.writes} == {"status"}
    status = {one["type"]: one for one in handled.status["conditions"]}
    assert status["Ready"]["reason"] == "ReferenceNotFound"
    assert "'hooks'" in status["Ready"]["message"]
    assert (status["Available"]["status"], status["Stalled"]["status"]) == ("True", "False")
    assert handled.status["stable"]["revision"] == stable
    handled.put(config_map("hooks", handler_py="x = 1"))
    await handled.rest()
    assert handled.status["stable"]["revision"] == stable
    assert "failure" not in handled.status


async def test_files_that_were_refused_are_tried_again_when_they_change(handled: Bench) -> None:
    await handled.once()
    handled.cluster.failing["apply", "ConfigMap"] = ClusterRejectedError("too long")
    with pytest.raises(ChildRejectedError):
        await handled.once()
    handled.cluster.failing.clear()
    handled.put(config_map("hooks", handler_py="x = 2"))
    await handled.rest()
    assert files(handled, "stable") == {"handler.py": "x = 2"}


async def test_a_deleted_model_reads_nothing(handled: Bench) -> None:
    await handled.rest()
    handled.store.remove(handled.cluster.objects["ModelDeployment", "fraud"])
    assert await handled.once() is None
    news = config_map("hooks", 10**6, handler_py="x = 3")
    assert handled.store.note_config_map(news, deleted=False) == set()
