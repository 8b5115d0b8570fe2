"""The API server as tests use it: JSON in, JSON out, and waiting by watches instead of sleeping."""

import base64
import json
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

Manifest = dict[str, Any]
Predicate = Callable[[Manifest], object]

RESOURCES: Final[Mapping[str, str]] = {
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "ControllerRevision": "apis/apps/v1/namespaces/{}/controllerrevisions",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "EndpointSlice": "apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "Event": "api/v1/namespaces/{}/events",
    "Gateway": "apis/gateway.networking.k8s.io/v1/namespaces/{}/gateways",
    "GatewayClass": "apis/gateway.networking.k8s.io/v1/gatewayclasses",
    "HTTPRoute": "apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
    "HorizontalPodAutoscaler": "apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "Ingress": "apis/networking.k8s.io/v1/namespaces/{}/ingresses",
    "IngressClass": "apis/networking.k8s.io/v1/ingressclasses",
    "ModelDeployment": "apis/modelyard.dev/v1alpha1/namespaces/{}/modeldeployments",
    "Namespace": "api/v1/namespaces",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Node": "api/v1/nodes",
    "PersistentVolumeClaim": "api/v1/namespaces/{}/persistentvolumeclaims",
    "Pod": "api/v1/namespaces/{}/pods",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "ReplicaSet": "apis/apps/v1/namespaces/{}/replicasets",
    "ResourceQuota": "api/v1/namespaces/{}/resourcequotas",
    "Secret": "api/v1/namespaces/{}/secrets",
    "Service": "api/v1/namespaces/{}/services",
}
CHILD_KINDS: Final = (
    *("ConfigMap", "ControllerRevision", "Deployment", "HorizontalPodAutoscaler"),
    *("Ingress", "NetworkPolicy", "PodDisruptionBudget", "Service"),
)
MERGE: Final = "application/merge-patch+json"
WATCH_S: Final = 60.0
GONE_S: Final = 240.0


def credentials(kubeconfig: Path) -> tuple[str, ssl.SSLContext]:
    """Return the server of a kubeconfig and a TLS context with its client certificate."""
    document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as file:
        for part in ("client-certificate-data", "client-key-data"):
            file.write(base64.b64decode(user[part]) + b"\n")
        file.flush()
        context.load_cert_chain(file.name)
    return str(cluster["server"]), context


class Api:
    """A client of the API server; threads may share it."""

    def __init__(self, server: str, context: ssl.SSLContext) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._http = httpx.Client(base_url=server, verify=context, timeout=60.0, limits=limits)

    @classmethod
    @contextmanager
    def of(cls, kubeconfig: Path) -> Iterator["Api"]:
        api = cls(*credentials(kubeconfig))
        with api._http:
            yield api

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        answer = self._http.get(f"{_path(kind, namespace)}/{name}")
        return None if answer.status_code == httpx.codes.NOT_FOUND else _json(answer)

    def need(self, kind: str, namespace: str, name: str) -> Manifest:
        found = self.get(kind, namespace, name)
        assert found is not None, f"{kind} {namespace}/{name} does not exist"
        return found

    def all(self, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        parameters = {"labelSelector": selector}
        listed = _json(self._http.get(_path(kind, namespace), params=parameters))
        items: list[Manifest] = listed["items"]
        return items

    def create(self, kind: str, namespace: str, body: Manifest) -> Manifest:
        return _json(self._http.post(_path(kind, namespace), json=body))

    def patch(
        self, kind: str, namespace: str, name: str, body: Manifest, *, subresource: str = ""
    ) -> Manifest:
        path = f"{_path(kind, namespace)}/{name}/{subresource}".rstrip("/")
        answer = self._http.patch(
            path, content=json.dumps(body).encode(), headers={"Content-Type": MERGE}
        )
        return _json(answer)

    def delete(self, kind: str, namespace: str, name: str) -> None:
        self._http.delete(f"{_path(kind, namespace)}/{name}").raise_for_status()

    def watch(
        self, kind: str, namespace: str, name: str, timeout_s: float = WATCH_S
    ) -> Iterator[Manifest | None]:
        """Yield the object as it is and each time it changes; None when it is not there.

        Each watch goes on from the list before it, so that no change between the two is missed:
        https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
        """
        deadline = time.monotonic() + timeout_s
        path, one = _path(kind, namespace), {"fieldSelector": f"metadata.name={name}"}
        while (left := deadline - time.monotonic()) > 0:
            listed = _json(self._http.get(path, params=one))
            yield next(({**item, "kind": kind} for item in listed["items"]), None)
            parameters: dict[str, str | int] = {
                **one,
                "watch": "1",
                "resourceVersion": listed["metadata"]["resourceVersion"],
                "timeoutSeconds": max(1, int(left)),
            }
            with self._http.stream("GET", path, params=parameters, timeout=left + 5) as stream:
                stream.raise_for_status()
                for line in stream.iter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break  # the API server ends this watch before its time; another follows
                    yield None if event["type"] == "DELETED" else event["object"]

    def until(
        self, kind: str, namespace: str, name: str, holds: Predicate, timeout_s: float = WATCH_S
    ) -> Manifest:
        """Wait until an object is as it should be, and return it.

        Raises:
            AssertionError: It was not so in time; the message tells how it was.
        """
        last: Manifest | None = None
        for last in self.watch(kind, namespace, name, timeout_s):
            if last is not None and holds(last):
                return last
        seen = json.dumps((last or {}).get("status"), indent=1)
        raise AssertionError(f"{kind} {namespace}/{name} after {timeout_s:.0f} s: {seen}")

    def until_gone(self, kind: str, namespace: str, name: str, timeout_s: float = GONE_S) -> None:
        """Wait until an object has been collected; many others may be before it."""
        for seen in self.watch(kind, namespace, name, timeout_s):
            if seen is None:
                return
        raise AssertionError(f"{kind} {namespace}/{name} is still there after {timeout_s:.0f} s")


def condition(model_deployment: Manifest, type_: str) -> Manifest:
    """Return a condition; an empty one when the status has none of that type."""
    conditions = model_deployment.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == type_), {})


def is_ready(model_deployment: Manifest) -> bool:
    """Ready for what the spec asks now: the condition is about the current generation."""
    ready = condition(model_deployment, "Ready")
    generation = model_deployment["metadata"]["generation"]
    return ready.get("status") == "True" and ready.get("observedGeneration") == generation


def state_of(model_deployment: Manifest) -> str:
    """Return where the rollout is."""
    return str(model_deployment.get("status", {}).get("rollout", {}).get("state", ""))


def revision_of(model_deployment: Manifest, role: str) -> str:
    """Return the name of the stable or the candidate revision; empty without one."""
    return str(model_deployment.get("status", {}).get(role, {}).get("revision", ""))


def _path(kind: str, namespace: str) -> str:
    return "/" + RESOURCES[kind].format(namespace)


def _json(answer: httpx.Response) -> Manifest:
    assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.text}"
    document: Manifest = answer.json()
    return document
