"""The only importer of the Kubernetes client: list, apply, prune, status and Events.

Every error of the client becomes one of ours. A write returns the object as the API server has it
now, so that the caller sees its own writes.

References:
    https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.dynamic import DynamicClient, exceptions
from kubernetes.aio.dynamic.resource import Resource

from modelyard_operator import metrics
from modelyard_operator.errors import (
    ClusterConflictError,
    ClusterError,
    ClusterForbiddenError,
    ClusterGoneError,
    ClusterRejectedError,
)
from modelyard_operator.kinds import BY_NAME, CONFIG_MAP, EVENT, MODEL_DEPLOYMENT, NODE, POD, Kind
from modelyard_operator.resources import labels
from modelyard_operator.rollout.status_part import format_time
from modelyard_operator.spec import ModelDeployment

Manifest = dict[str, Any]

PAGE_SIZE: Final = 500
REQUEST_TIMEOUT_S: Final = 30
MERGE_PATCH: Final = "application/merge-patch+json"
# A field that the API server does not know must never vanish in silence.
STRICT: Final = ("fieldValidation", "Strict")

_MEANING: Final = (
    (exceptions.ConflictError, ClusterConflictError),
    (exceptions.ForbiddenError, ClusterForbiddenError),
    (exceptions.BadRequestError, ClusterRejectedError),
    (exceptions.UnprocessibleEntityError, ClusterRejectedError),
    (exceptions.NotFoundError, ClusterGoneError),
    (exceptions.GoneError, ClusterGoneError),
)


class Cluster:
    """The API server, in the words of this operator."""

    def __init__(self, api_client: client.ApiClient, namespaces: Sequence[str] = ()) -> None:
        self._api_client = api_client
        self._client = DynamicClient(api_client)
        self._namespaces = tuple(namespaces)

    @classmethod
    async def connect(cls, namespaces: Sequence[str] = ()) -> Self:
        """Connect as the pod's service account, or as the kubeconfig says.

        Args:
            namespaces: Namespaces to list; empty means all of them.
        """
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)
        return cls(client.ApiClient(configuration), namespaces)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._api_client.close()

    async def list_all(self, kind: Kind) -> AsyncIterator[Manifest]:
        """Yield every object of a kind that concerns the operator, page by page."""
        selector = None if kind is MODEL_DEPLOYMENT else labels.SELECTOR
        for namespace in self._namespaces or (None,):
            async for item in self._pages(kind, namespace=namespace, label_selector=selector):
                yield item

    async def list_events(self, namespace: str, uid: str) -> list[Manifest]:
        """Return the Events about one object."""
        about = f"involvedObject.uid={uid}"
        return [one async for one in self._pages(EVENT, namespace=namespace, field_selector=about)]

    async def list_nodes(self) -> list[Manifest]:
        """Return every node.

        Raises:
            ClusterForbiddenError: The operator serves single namespaces and may not see nodes.
            ClusterError: Anything else.
        """
        return [node async for node in self._pages(NODE)]

    async def list_pods_on(self, node: str) -> list[Manifest]:
        """Return the pods of all namespaces that hold a node's resources.

        Raises:
            ClusterForbiddenError: The operator may not see other namespaces.
            ClusterError: Anything else.
        """
        held = f"spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed"
        return [pod async for pod in self._pages(POD, field_selector=held)]

    async def read_config_map(self, namespace: str, name: str) -> Manifest | None:
        """Return a ConfigMap as it is now; None when there is none of the name."""
        return await self.read(CONFIG_MAP, name, namespace)

    async def read(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
        """Return an object as it is now; None when there is none of the name, or no such kind.

        Raises:
            ClusterForbiddenError: The operator may not see it.
            ClusterError: Anything else.
        """
        try:
            return await self._send("get", kind, name=name, namespace=namespace)
        except ClusterGoneError:
            return None

    async def apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        """Apply a child by server-side apply.

        Args:
            manifest: All that we want of the object.
            force: Take fields over from other managers. Without it a stranger's object of the same
                name is refused instead of being taken over.

        Raises:
            ClusterConflictError: Without ``force``, another manager holds one of the fields.
            ClusterRejectedError: The API server finds the object invalid.
            ClusterError: Anything else.
        """
        return await self._send(
            "server_side_apply",
            BY_NAME[manifest["kind"]],
            body=manifest,
            force_conflicts="true" if force else "false",
            query_params=[STRICT],
        )

    async def write_status(self, model_deployment: ModelDeployment, status: Manifest) -> Manifest:
        """Apply the whole status of a version of an object; a newer version makes it fail.

        Raises:
            ClusterConflictError: The object has changed since it was read.
            ClusterGoneError: It does not exist any more.
            ClusterError: Anything else.
        """
        body = {
            "apiVersion": MODEL_DEPLOYMENT.api_version,
            "kind": MODEL_DEPLOYMENT.name,
            "metadata": {
                "name": model_deployment.name,
                "namespace": model_deployment.namespace,
                "resourceVersion": model_deployment.resource_version,
            },
            "status": status,
        }
        return await self._send(
            "server_side_apply",
            MODEL_DEPLOYMENT,
            body=body,
            name=f"{model_deployment.name}/status",
            force_conflicts="true",
            query_params=[STRICT],
        )

    async def scale(self, namespace: str, workload: str, replicas: int) -> None:
        """Set the replicas of a Deployment through its scale subresource."""
        body = {"spec": {"replicas": replicas}}
        await self._merge(BY_NAME["Deployment"], namespace, f"{workload}/scale", body)

    async def annotate_pod(self, namespace: str, pod: str, annotations: dict[str, str]) -> Manifest:
        """Set annotations of a running pod."""
        patched = await self._merge(POD, namespace, pod, {"metadata": {"annotations": annotations}})
        return {"kind": POD.name, **patched}

    async def delete(self, child: Manifest) -> None:
        """Delete a child after a live look; one that changed meanwhile is left for another pass.

        Raises:
            ClusterConflictError: It is not the object that was seen.
            ClusterError: Anything else.
        """
        kind, metadata = BY_NAME[child["kind"]], child["metadata"]
        where = {"name": metadata["name"], "namespace": metadata["namespace"]}
        try:
            live = (await self._send("get", kind, **where))["metadata"]
        except ClusterGoneError:
            return
        if live["uid"] != metadata["uid"]:
            raise ClusterConflictError(f"{kind.name} {metadata['name']} was made anew")
        if "deletionTimestamp" in live:
            return
        seen = {"uid": live["uid"], "resourceVersion": live["resourceVersion"]}
        body = {"preconditions": seen, "propagationPolicy": "Background"}
        await self._send("delete", kind, body=body, **where)

    async def post_event(
        self, model_deployment: ModelDeployment, event: tuple[str, str, str], now: datetime
    ) -> None:
        """Post an Event about a ModelDeployment; ``event`` is type, reason and message."""
        type_, reason, message = event
        unique = hashlib.sha256(f"{reason}{message}{now.isoformat()}".encode()).hexdigest()[:12]
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{model_deployment.name}.{unique}",
                "namespace": model_deployment.namespace,
            },
            "involvedObject": {
                "apiVersion": MODEL_DEPLOYMENT.api_version,
                "kind": MODEL_DEPLOYMENT.name,
                "name": model_deployment.name,
                "namespace": model_deployment.namespace,
                "uid": model_deployment.uid,
            },
            "type": type_,
            "reason": reason,
            "message": message[:1024],
            "count": 1,
            "firstTimestamp": format_time(now),
            "lastTimestamp": format_time(now),
            "source": {"component": labels.MANAGER},
        }
        await self._send("create", EVENT, body=body, namespace=model_deployment.namespace)

    async def _pages(self, kind: Kind, **selection: Any) -> AsyncIterator[Manifest]:
        token: str | None = None
        while True:
            page = await self._send("get", kind, limit=PAGE_SIZE, _continue=token, **selection)
            for item in page["items"]:
                yield {"apiVersion": kind.api_version, "kind": kind.name, **item}
            token = page["metadata"].get("continue")
            if not token:
                break

    async def _merge(self, kind: Kind, namespace: str, path: str, body: Manifest) -> Manifest:
        return await self._send(
            "patch", kind, body=body, name=path, namespace=namespace, content_type=MERGE_PATCH
        )

    async def _send(self, verb: str, kind: Kind, **arguments: Any) -> Manifest:
        """Call a method of the dynamic client, which knows neither types nor our errors."""
        if verb != "get":
            arguments["field_manager"] = labels.MANAGER
        call = getattr(self._client, verb)
        with _translated(verb, kind):
            response = await call(
                _resource(kind), serialize=False, _request_timeout=REQUEST_TIMEOUT_S, **arguments
            )
            body: Manifest = await response.json()
        return body


def _resource(kind: Kind) -> Resource:
    return Resource(
        prefix="apis" if kind.group else "api",
        group=kind.group or None,
        api_version=kind.version,
        kind=kind.name,
        name=kind.plural,
        namespaced=True,
    )


@contextmanager
def _translated(verb: str, kind: Kind) -> Iterator[None]:
    """Count a request and turn the client's exceptions into ours."""
    code = "error"
    try:
        yield
        code = "2xx"
    except client.ApiException as error:
        code = str(error.status)
        for theirs, ours in _MEANING:
            if isinstance(error, theirs):
                raise ours(f"{verb} {kind.name}: {_message(error)}") from error
        raise ClusterError(f"{verb} {kind.name}: {_message(error)}") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ClusterError(f"{verb} {kind.name}: {type(error).__name__}: {error}") from error
    finally:
        metrics.REQUESTS.labels(verb, kind.plural, code).inc()


def _message(error: client.ApiException) -> str:
    """Return the API server's own sentence."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
