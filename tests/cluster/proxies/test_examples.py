"""One file, as it is, behind every proxy: which one is the administrator's choice."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from testkit.cluster_fleet import chart_operator_off
from testkit.cluster_gate import Loop, PrivateOperator
from testkit.cluster_lab import ROOT, Bench, Lab, Served
from testkit.cluster_proxies import PROFILES, Profile
from testkit.cluster_traffic import OK, Route

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

EXAMPLE: Final = ROOT / "examples" / "digits" / "sklearn.yaml"
MANIFEST: Final[dict[str, Any]] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
NAME: Final = MANIFEST["metadata"]["name"]
NAMESPACE: Final = MANIFEST["metadata"]["namespace"]
PIXELS: Final = 64


@pytest.fixture(scope="module")
def example(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The example's model and namespace, and no operator."""
    # Here and not above: it loads torch, and the contract tests load this module.
    from demo.training import train_sklearn  # noqa: PLC0415

    folder, spec = tmp_path_factory.mktemp("digits"), MANIFEST["spec"]["model"]
    key = spec["uri"].removeprefix("s3://models/")
    assert train_sklearn(key, folder).digest == spec["digest"]
    lab.bucket().put(key, folder / key)
    lab.api.create("Namespace", "", {"metadata": {"name": NAMESPACE}})
    try:
        lab.give_credentials(NAMESPACE, spec["credentialsSecretRef"]["name"])
        with chart_operator_off(lab):
            yield lab
    finally:
        lab.api.delete("Namespace", "", NAMESPACE)


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_an_example_is_served_behind_any_proxy(
    example: Lab, profile: Profile, tmp_path: Path
) -> None:
    lab = example
    (host,) = MANIFEST["spec"]["exposure"]["hosts"]
    route = Route(profile.address(lab), host, NAME)
    served = Served(Bench(lab, NAMESPACE, route.proxy), NAME, route)
    loop = Loop()
    operator = PrivateOperator(
        loop=loop,
        kubeconfig=lab.provider.kubeconfig,
        env={**lab.operator_env, **_defaults(profile)},
        namespace=NAMESPACE,
        folder=tmp_path,
    )
    operator.start()
    try:
        lab.kubectl("apply", f"--filename={EXAMPLE}")
        traffic = served.until_ready()["status"]["traffic"]
        assert traffic["dialect"] == profile.exposure.get("dialect", "Ingress")
        _is_answered(route)
    finally:
        operator.stop()
        loop.close()
        lab.kubectl("delete", f"--filename={EXAMPLE}", "--ignore-not-found")
        # Its pods may take their time; by its routes the next one would know its dialect.
        for kind in ("Ingress", "HTTPRoute") if profile.gateway else ("Ingress",):
            lab.api.until_gone(kind, NAMESPACE, NAME)


def _defaults(profile: Profile) -> dict[str, str]:
    """Return what the chart's values `defaultDialect` and `defaultGateway` give to the operator."""
    if profile.gateway is None:
        return {}
    return {
        "MODELYARD_OPERATOR_DEFAULT_DIALECT": "Gateway",
        "MODELYARD_OPERATOR_DEFAULT_GATEWAY": json.dumps(profile.exposure["gatewayRef"]),
    }


def _is_answered(route: Route) -> None:
    (declared,) = route.ask(path=f"/v2/models/{NAME}").document["inputs"]
    tensor = {"name": declared["name"], "datatype": declared["datatype"], "shape": [1, PIXELS]}
    answer = route.ask(json.dumps({"inputs": [{**tensor, "data": [0] * PIXELS}]}).encode())
    assert answer.status == OK, answer
