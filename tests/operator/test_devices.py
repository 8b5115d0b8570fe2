from typing import Any

from modelyard_operator.devices import Inventory, devices_of
from modelyard_operator.spec import AcceleratorSpec

GPU = AcceleratorSpec(count=1)


def node(name: str, gpus: str = "2", product: str = "", **spec: Any) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.product": product} if product else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": gpus},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def taker(on: str | None, *counts: str, init: str = "") -> dict[str, Any]:
    def container(count: str) -> dict[str, Any]:
        return {"resources": {"limits": {"nvidia.com/gpu": count, "memory": "1Gi"}}}

    spec: dict[str, Any] = {"containers": [container(count) for count in counts]}
    if on:
        spec["nodeName"] = on
    if init:
        spec["initContainers"] = [container(init)]
    return {"spec": spec}


def test_what_pods_have_taken_is_not_free() -> None:
    inventory = Inventory.take([node("a"), node("b")], [taker("a", "1"), taker("b", "1", "1")])
    assert str(inventory.count(GPU)) == "1 free of 4"


def test_a_pod_without_a_node_has_taken_nothing() -> None:
    assert str(Inventory.take([node("a")], [taker(None, "2")]).count(GPU)) == "2 free of 2"


def test_a_container_that_runs_first_may_need_more() -> None:
    inventory = Inventory.take([node("a", "4")], [taker("a", "1", init="3")])
    assert inventory.count(GPU).free == 1


def test_devices_on_two_nodes_do_not_add_up_for_one_pod() -> None:
    inventory = Inventory.take([node("a", "2"), node("b", "2")], [taker("a", "1"), taker("b", "1")])
    assert str(inventory.count(GPU)) == "2 free of 4 (at most 1 on one node)"


def test_nodes_that_take_no_pods_do_not_count() -> None:
    lost = node("c")
    lost["status"]["conditions"][0]["status"] = "Unknown"
    inventory = Inventory.take([node("a"), node("b", unschedulable=True), lost], [])
    assert str(inventory.count(GPU)) == "2 free of 2"


def test_only_the_wanted_product_counts() -> None:
    nodes = [node("a", product="NVIDIA-L4"), node("b", product="NVIDIA-H100"), node("c")]
    wanted = AcceleratorSpec(products=("NVIDIA-L4",))
    assert str(Inventory.take(nodes, []).count(wanted)) == "2 free of 2"


def test_another_resource_is_another_device() -> None:
    slices = AcceleratorSpec(resource_name="nvidia.com/mig-1g.10gb")
    assert str(Inventory.take([node("a")], []).count(slices)) == "0 free of 0"


def test_devices_are_extended_resources_alone() -> None:
    assert devices_of(node("a")) == {"nvidia.com/gpu": 2}
