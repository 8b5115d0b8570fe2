"""The chart through the real helm; the cluster tool brings helm along."""

from collections.abc import Iterable
from typing import Any

import pytest

from modelyard_operator.kinds import (
    CHILD_KINDS,
    EVENT,
    GATEWAY,
    GATEWAY_CLASS,
    MODEL_DEPLOYMENT,
    NODE,
    OPTIONAL_KINDS,
    POD,
)
from modelyard_operator.settings import OperatorSettings
from testkit.chart import CHART, pick, render, run_helm
from testkit.crd import load_crd

pytestmark = pytest.mark.cluster

PREFIX = "MODELYARD_OPERATOR_"
MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "namespaced": {"watchNamespaces": ["ml", "vision"]},
    "bare": {
        "crds": {"enabled": False},
        "rbac": {"create": False, "aggregate": False},
        "serviceAccount": {"create": False, "name": "mine"},
        "metrics": {"service": {"enabled": False}},
    },
    "all": {
        "fullnameOverride": "serving",
        "image": {"repository": "mirror/operator", "tag": "1.2", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "mirror"}],
        "runtime": {"image": "mirror/runtime:1", "slimImage": "mirror/runtime:2"},
        "ingressClassProfiles": {"nginx": "ingress-nginx", "traefik": "traefik-nginx"},
        "defaultIngressClass": "nginx",
        "defaultDialect": "Gateway",
        "defaultGateway": {"name": "public", "namespace": "infra"},
        "gatewayClassProfiles": {"eg": "envoy-gateway"},
        "proxyNamespaces": ["ingress-nginx", "gateways"],
        "prometheusNamespaces": ["monitoring"],
        "allowedRegistries": ["mirror/"],
        "logLevel": "DEBUG",
        "workers": 2,
        "crds": {"keep": False},
        "metrics": {"service": {"port": 80, "annotations": {"a": "b"}}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "ml"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "proxy:3128"}],
    },
}
OWN = {"get", "list", "watch", "create", "patch", "delete"}


def _needed() -> set[tuple[str, str, str]]:
    """What the operator's code calls: watches of its kinds, and the verbs of its cluster module."""
    needs = {(kind.group, kind.plural): OWN for kind in (*CHILD_KINDS, *OPTIONAL_KINDS)}
    needs[GATEWAY.group, GATEWAY.plural] = {"get"}
    needs[MODEL_DEPLOYMENT.group, MODEL_DEPLOYMENT.plural] = {"get", "list", "watch"}
    needs[MODEL_DEPLOYMENT.group, f"{MODEL_DEPLOYMENT.plural}/status"] = {"patch"}
    # For blockOwnerDeletion, which the children's owner references set.
    needs[MODEL_DEPLOYMENT.group, f"{MODEL_DEPLOYMENT.plural}/finalizers"] = {"update"}
    needs[POD.group, POD.plural] = {"get", "list", "watch", "patch"}
    needs[EVENT.group, EVENT.plural] = {"create", "list"}
    needs["apps", "deployments/scale"] = {"patch"}
    return {(*where, verb) for where, verbs in needs.items() for verb in verbs}


def _granted(rules: Iterable[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _operator_roles(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [
        one for one in pick(objects, kind) if not one["metadata"]["name"].endswith(("view", "edit"))
    ]


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_lint_finds_nothing(values: dict[str, Any]) -> None:
    assert "0 chart(s) failed" in run_helm("lint", "--strict", str(CHART), values=values)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_the_environment_is_what_the_settings_read(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (workload,) = pick(render(values), "Deployment")
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one.get("value", "") for one in container["env"]}
    ours = {name.removeprefix(PREFIX).lower() for name in variables if name.startswith(PREFIX)}
    assert ours == set(OperatorSettings.model_fields)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = OperatorSettings()
    assert settings.namespaces == tuple(values.get("watchNamespaces", ()))
    assert settings.ingress_class_profiles == values.get("ingressClassProfiles", {})
    assert settings.gateway_class_profiles == values.get("gatewayClassProfiles", {})
    assert (settings.default_gateway is not None) is ("defaultGateway" in values)
    assert settings.default_dialect == values.get("defaultDialect", "Auto")
    assert settings.proxy_namespaces == tuple(values.get("proxyNamespaces", ()))
    assert settings.prometheus_namespaces == tuple(values.get("prometheusNamespaces", ()))
    assert settings.allowed_registries == tuple(values.get("allowedRegistries", ()))
    assert settings.log_level == values.get("logLevel", "INFO")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": settings.http_port, "metrics": settings.metrics_port}


def test_cluster_wide_it_gets_what_it_calls_and_no_more() -> None:
    objects = render()
    (role,) = _operator_roles(objects, "ClusterRole")
    assert _granted(role["rules"]) == _needed() | {
        (NODE.group, NODE.plural, "list"),
        (GATEWAY_CLASS.group, GATEWAY_CLASS.plural, "get"),
    }
    assert pick(objects, "Role") == []
    (binding,) = pick(objects, "ClusterRoleBinding")
    (account,) = pick(objects, "ServiceAccount")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    assert binding["subjects"][0]["namespace"] == "modelyard"


def test_with_namespaces_it_gets_a_role_in_each_and_nothing_cluster_wide() -> None:
    objects = render({"watchNamespaces": ["ml", "vision"]})
    assert _operator_roles(objects, "ClusterRole") == []
    assert pick(objects, "ClusterRoleBinding") == []
    roles, bindings = pick(objects, "Role"), pick(objects, "RoleBinding")
    for found in (roles, bindings):
        assert [one["metadata"]["namespace"] for one in found] == ["ml", "vision"]
    for role in roles:
        assert _granted(role["rules"]) == _needed()


def test_no_role_reads_secrets_or_uses_wildcards() -> None:
    for role in pick(render(), "ClusterRole"):
        granted = _granted(role["rules"])
        assert not {resource for _, resource, _ in granted} & {"secrets", "*"}
        assert not {verb for *_, verb in granted} & {"*", "escalate", "bind", "impersonate"}


def test_aggregated_roles_let_users_read_and_edit_but_not_forge_status() -> None:
    roles = {one["metadata"]["name"]: one for one in pick(render(), "ClusterRole")}
    view, edit = roles["modelyard-view"], roles["modelyard-edit"]
    aggregate = "rbac.authorization.k8s.io/aggregate-to-"
    assert f"{aggregate}view" in view["metadata"]["labels"]
    assert f"{aggregate}view" not in edit["metadata"]["labels"]
    assert {verb for *_, verb in _granted(view["rules"])} == {"get", "list", "watch"}
    writable = {resource for _, resource, _ in _granted(edit["rules"])}
    assert writable == {"modeldeployments", "modeldeployments/scale"}


@pytest.mark.parametrize(
    ("keep", "annotations"),
    [(True, {"helm.sh/resource-policy": "keep"}), (False, None)],
)
def test_the_rendered_crd_is_the_source(keep: bool, annotations: dict[str, str] | None) -> None:  # noqa: FBT001 -- a parameter of the test
    (crd,) = pick(render({"crds": {"keep": keep}}), "CustomResourceDefinition")
    assert crd["spec"] == load_crd()["spec"]
    assert crd["metadata"]["name"] == load_crd()["metadata"]["name"]
    assert crd["metadata"].get("annotations") == annotations


def test_the_pod_meets_the_restricted_standard() -> None:
    (workload,) = pick(render(), "Deployment")
    assert workload["spec"]["replicas"] == 1
    assert workload["spec"]["strategy"] == {"type": "Recreate"}
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all("emptyDir" in volume for volume in pod["volumes"])
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_services_select_the_pod(values: dict[str, Any]) -> None:
    objects = render(values)
    (workload,) = pick(objects, "Deployment")
    labels = workload["spec"]["template"]["metadata"]["labels"]
    selectors = [one["spec"]["selector"] for one in pick(objects, "Service")]
    selectors.append(workload["spec"]["selector"]["matchLabels"])
    for selector in selectors:
        assert selector.items() <= labels.items()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"watchNamespace": "ml"}, "watchNamespace"),
        ({"watchNamespaces": "ml"}, "watchNamespaces"),
        ({"watchNamespaces": ["ML"]}, "watchNamespaces/0"),
        ({"proxyNamespaces": "traefik"}, "proxyNamespaces"),
        ({"prometheusNamespaces": ["*"]}, "prometheusNamespaces/0"),
        ({"ingressClassProfiles": {"nginx": "nginx"}}, "ingressClassProfiles/nginx"),
        ({"image": {"tag": "a b"}}, "image/tag"),
        ({"image": {"pullPolicy": "Sometimes"}}, "image/pullPolicy"),
        ({"logLevel": "info"}, "logLevel"),
        ({"workers": 0}, "workers"),
        ({"crds": {"install": True}}, "crds"),
        ({"metrics": {"service": {"port": 70000}}}, "metrics/service/port"),
        ({"extraEnv": [{"value": "1"}]}, "extraEnv/0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_values_are_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        render(values)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_an_api_server_accepts_what_is_rendered(kubectl: Any, values: dict[str, Any]) -> None:
    text = run_helm("template", "modelyard", str(CHART), "--namespace", "default", values=values)
    text = text.replace("namespace: ml", "namespace: default")
    text = text.replace("namespace: vision", "namespace: default")
    arguments = ("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-")
    kubectl(*arguments, stdin=text)
