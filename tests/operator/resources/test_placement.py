from typing import Any

import pytest

from modelyard_operator.resources.placement import build_placement, product_label
from modelyard_operator.spec import ModelDeploymentSpec

SELECTOR = {"app": "fraud"}


def placed(**spec: Any) -> dict[str, Any]:
    given = {"model": {"uri": "s3://a"}, **spec}
    return build_placement(ModelDeploymentSpec.model_validate(given), SELECTOR)


@pytest.mark.parametrize(
    ("resource", "label"),
    [
        ("nvidia.com/gpu", "nvidia.com/gpu.product"),
        ("nvidia.com/mig-1g.5gb", "nvidia.com/gpu.product"),
        ("amd.com/gpu", "amd.com/gpu.product-name"),
        ("google.com/tpu", "cloud.google.com/gke-tpu-accelerator"),
    ],
)
def test_each_vendor_labels_its_products(resource: str, label: str) -> None:
    assert product_label(resource) == label


def test_without_wishes_nothing_is_said() -> None:
    assert placed() == {}


def test_a_device_s_taint_is_tolerated_after_the_user_s_own() -> None:
    mine = {"key": "dedicated", "operator": "Exists"}
    made = placed(accelerator={"resourceName": "amd.com/gpu"}, scheduling={"tolerations": [mine]})
    theirs = {"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert made == {"tolerations": [mine, theirs]}


def test_products_are_demanded_and_preferred_in_order() -> None:
    products = [f"P{rank}" for rank in range(12)]
    affinity = placed(accelerator={"products": products})["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == products
    ranked = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    weights = [one["weight"] for one in ranked]
    assert weights == [100, 90, 80, 70, 60, 50, 40, 30, 20, 10, 1, 1]


def test_the_demand_joins_each_of_the_user_s_alternatives() -> None:
    zone = {"key": "zone", "operator": "In", "values": ["a"]}
    wish = {"weight": 1, "preference": {"matchExpressions": [zone]}}
    fields = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}
    mine = {
        "podAntiAffinity": {"x": []},
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [zone]}, fields]
            },
            "preferredDuringSchedulingIgnoredDuringExecution": [wish],
        },
    }
    made = placed(accelerator={"products": ["L4"]}, scheduling={"affinity": mine})["affinity"]
    product = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["L4"]}
    node = made["nodeAffinity"]
    assert node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] == [
        {"matchExpressions": [zone, product]},
        {**fields, "matchExpressions": [product]},
    ]
    assert node["preferredDuringSchedulingIgnoredDuringExecution"][0] == wish
    assert made["podAntiAffinity"] == {"x": []}


def test_a_spread_constraint_counts_the_revision_s_pods_unless_it_says_whose() -> None:
    bare = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    own = bare | {"labelSelector": {"matchLabels": {"mine": "1"}}}
    made = placed(scheduling={"topologySpreadConstraints": [bare, own]})
    assert made["topologySpreadConstraints"] == [
        bare | {"labelSelector": {"matchLabels": SELECTOR}},
        own,
    ]
