"""An autoscaler on real load, and an operator that lets it."""

from typing import Final

import pytest

from testkit.cluster_api import condition, revision_of
from testkit.cluster_lab import Lab, Served
from testkit.cluster_traffic import Load

pytestmark = [pytest.mark.cluster, pytest.mark.together]

NUDGES: Final = 20
SCALING: Final = {
    "minReplicas": 1,
    "maxReplicas": 3,
    "metrics": [{"type": "Resource", "resource": "cpu", "target": 50}],
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
}


def test_it_scales_with_the_load_and_the_operator_keeps_its_number(lab: Lab) -> None:
    with lab.bench("autoscaling") as bench:
        served = bench.serve("fraud", scaling=SCALING, resources={"requests": {"cpu": "50m"}})
        revision = revision_of(served.until_ready(), "stable")
        served.until_answered()
        where = ("HorizontalPodAutoscaler", bench.namespace, revision)
        with Load(served.route, threads=2, pause_s=0.01) as load:
            lab.api.until(*where, lambda seen: seen["status"].get("desiredReplicas", 0) >= 2, 180)
            grown = served.until(lambda seen: seen["status"]["readyReplicas"] >= 2)
        assert load.failed == []
        assert condition(grown, "ScalingActive")["status"] == "True"
        size = lab.api.need("Deployment", bench.namespace, revision)["spec"]["replicas"]
        assert size >= 2
        for nudge in range(NUDGES):
            _nudge(served, revision, nudge)
        workload = lab.api.need("Deployment", bench.namespace, revision)
        assert workload["spec"]["replicas"] >= size
        holders = [
            entry
            for entry in workload["metadata"]["managedFields"]
            if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
        ]
        assert "modelyard" not in {entry["manager"] for entry in holders}
        autoscaler = lab.api.need(*where)
        assert autoscaler["spec"]["minReplicas"] == 1
        assert autoscaler["spec"]["maxReplicas"] == 3


def _nudge(served: Served, revision: str, number: int) -> None:
    """Make the operator look again, and wait until it has put right what it found."""
    annotations = {"metadata": {"annotations": {"nudge": str(number)}}}
    served.api.patch("ModelDeployment", served.namespace, served.name, annotations)
    broken = {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 2 + number}}}}
    served.api.patch("Deployment", served.namespace, revision, broken)
    served.api.until(
        *("Deployment", served.namespace, revision),
        lambda seen: seen["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1,
        20,
    )
