"""Nothing that a ModelDeployment makes names another namespace, but for a Gateway as its parent."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from modelyard_operator.errors import InvalidSpecError
from modelyard_operator.resources.pod_overrides import merge_pod_overrides
from modelyard_operator.spec import PodTemplateSpec
from testkit.crd import object_schema, walk
from testkit.operator_cluster import Bench
from testkit.operator_objects import config_map, raw_model_deployment

Manifest = dict[str, Any]
VICTIM = "bank"
PREFIX = "nginx.ingress.kubernetes.io/"
ANNOTATIONS = (
    *(f"{PREFIX}auth-secret", f"{PREFIX}auth-tls-secret", f"{PREFIX}proxy-ssl-secret"),
    *(f"{PREFIX}auth-proxy-set-headers", f"{PREFIX}custom-headers", f"{PREFIX}mirror-target"),
    *(f"{PREFIX}fastcgi-params-configmap", f"{PREFIX}default-backend", f"{PREFIX}server-alias"),
    *("traefik.ingress.kubernetes.io/router.middlewares", "haproxy.org/server-ca"),
    *("projectcontour.io/tls-cert-namespace", "modelyard.dev/model-deployment"),
)
"""Keys whose values some proxy takes for objects of other namespaces, or for other hosts."""


def elsewhere(name: str) -> Manifest:
    return {"name": name, "namespace": VICTIM}


def hostile(dialect: str) -> Manifest:
    """A spec in which every reference asks for another namespace; the CRD drops what it asks."""
    exposure = {
        "dialect": dialect,
        "hosts": ["fraud.example.com"],
        "tls": {"secretName": "own-cert", "namespace": VICTIM},
        "auth": {"type": "APIKey", "secretName": "own-keys", "namespace": VICTIM},
        "gatewayRef" if dialect == "Gateway" else "ingressClassName": (
            elsewhere("public") if dialect == "Gateway" else "nginx"
        ),
    }
    model = {
        "uri": "s3://models/fraud/8",
        "credentialsSecretRef": elsewhere("own-s3"),
        "caBundleConfigMapRef": elsewhere("own-ca"),
    }
    reference = {"configMapName": "own-files", "key": "handler.py", "namespace": VICTIM}
    runtime = {
        "handlerRef": reference,
        "imagePullSecrets": [elsewhere("own-pull")],
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "own", "key": "k"}}}],
        "warmup": {"requests": [reference]},
    }
    rollout = {"shadow": {"percent": 10, "service": VICTIM}, "match": [_match("X-To", "always")]}
    return {
        "model": model,
        "runtime": runtime,
        "exposure": exposure,
        "rollout": rollout,
        "observability": {"audit": {"mode": "Metadata", "namespace": VICTIM}},
    }


def _match(name: str, value: str) -> Manifest:
    return {"header": {"name": name, "value": value}, "namespace": VICTIM}


def mentions(value: Any, path: str = "") -> Iterator[str]:
    """Yield where an object names a namespace that is not its own, or the victim's name."""
    match value:
        case dict():
            for key, child in value.items():
                yield from mentions(child, f"{path}.{key}")
        case list():
            for child in value:
                yield from mentions(child, f"{path}[]")
        case _ if path.endswith((".namespace", "Namespace")) and value != "ml":
            yield path
        case str() if VICTIM in value:
            yield path


@pytest.mark.parametrize(
    ("dialect", "tls", "parents"),
    [
        ("Ingress", True, set()),
        ("Gateway", False, {("HTTPRoute", ".spec.parentRefs[].namespace")}),
        ("Gateway", True, {("ListenerSet", ".spec.parentRef.namespace")}),
    ],
)
async def test_only_a_gateway_is_named_elsewhere(
    dialect: str,
    tls: bool,  # noqa: FBT001 -- a parameter of the test
    parents: set[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = hostile(dialect)
    if not tls:
        del spec["exposure"]["tls"]
    bench = Bench(raw_model_deployment(**spec), monkeypatch)
    bench.put(config_map("own-files", handler_py="def preprocess(request, ctx): ..."))
    listeners = [{"name": "http", "protocol": "HTTP"}]
    gateway = {
        "gatewayClassName": "eg",
        "listeners": listeners,
        "allowedListeners": {"namespaces": {"from": "All"}},
    }
    controller = {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"}
    for kind, name, spec in (("Gateway", "public", gateway), ("GatewayClass", "eg", controller)):
        bench.cluster.objects[kind, name] = {"kind": kind, "metadata": {"name": name}, "spec": spec}
    await bench.rest()
    bench.edit(model={"uri": "s3://models/fraud/9", "credentialsSecretRef": elsewhere("own-s3")})
    await bench.until("Shadowing")
    made = [
        (place[0], {part: raw[part] for part in raw if part != "status"})
        for place, raw in bench.cluster.objects.items()
        if raw["metadata"].get("ownerReferences")
    ]
    assert {"Deployment", "Ingress" if dialect == "Ingress" else "HTTPRoute"} <= dict(made).keys()
    found = {(kind, where) for kind, raw in made for where in mentions(raw)}
    assert found == parents


def test_only_the_gateway_s_reference_has_a_namespace() -> None:
    """Beside it, only a list of namespaces that may call, and none of these reads anything."""
    paths = [path for path, _ in walk(object_schema(), "") if path.startswith(".spec.")]
    found = [path for path in paths if path.endswith(".namespace")]
    assert found == [".spec.exposure.gatewayRef.namespace"]


@pytest.mark.parametrize("field", ["tls.secretName", "auth.secretName"])
def test_a_secret_s_name_is_no_path_to_another_namespace(field: str) -> None:
    """Proxies join it to the namespace with a slash."""
    pattern = dict(walk(object_schema(), ""))[f".spec.exposure.{field}"]["pattern"]
    assert re.search(pattern, "own-cert")
    assert not re.search(pattern, f"{VICTIM}/cert")


@pytest.mark.parametrize("key", ANNOTATIONS)
def test_annotations_that_reach_elsewhere_are_refused(key: str) -> None:
    (schema,) = [
        one for path, one in walk(object_schema(), "") if path == ".spec.exposure.annotations"
    ]
    rules = " ".join(rule["rule"] for rule in schema["x-kubernetes-validations"])
    patterns = re.findall(r"k\.matches\('(.+?)'\)", rules)
    starts = tuple(re.findall(r"k\.startsWith\('(.+?)'\)", rules))
    assert any(re.search(one, key) for one in patterns) or key.startswith(starts)


def test_no_volume_is_filled_from_elsewhere() -> None:
    source = {"kind": "PersistentVolumeClaim", "name": "models", "namespace": VICTIM}
    claim = {"spec": {"accessModes": ["ReadOnlyMany"], "dataSourceRef": source}}
    volume = {"name": "stolen", "ephemeral": {"volumeClaimTemplate": claim}}
    with pytest.raises(InvalidSpecError, match=r"volumes\[stolen\].+namespace"):
        merge_pod_overrides({}, PodTemplateSpec(spec={"volumes": [volume]}))
    del source["namespace"]
    assert merge_pod_overrides({}, PodTemplateSpec(spec={"volumes": [volume]}))["spec"]["volumes"]
