"""The only importer of the Kubernetes client: reads, one annotation, logs and a request to a model.

Every error of the client becomes one of ours, with a hint where a person can do something about it.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from kubernetes import client, config
from kubernetes.config import ConfigException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.resource import Resource
from kubernetes.watch import Watch
from urllib3.exceptions import HTTPError

from modelyard_cli.errors import (
    ApiError,
    ForbiddenError,
    KubeconfigError,
    NotFoundError,
    UnreachableError,
)
from modelyard_cli.prediction import Question

Manifest = dict[str, Any]

MODEL_DEPLOYMENT_LABEL: Final = "modelyard.dev/model-deployment"
VARIANT_LABEL: Final = "modelyard.dev/variant"
FIELD_MANAGER: Final = "modelyard-cli"
MERGE_PATCH: Final = "application/merge-patch+json"
REQUEST_TIMEOUT_S: Final = 30.0
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
FALLBACK_NAMESPACE: Final = "default"
KINDS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "ModelDeployment": ("modelyard.dev", "v1alpha1", "modeldeployments"),
        "ControllerRevision": ("apps", "v1", "controllerrevisions"),
        "Pod": ("", "v1", "pods"),
        "Event": ("", "v1", "events"),
    }
)
"""Group, version and plural of what is read."""


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        status: HTTP status.
        headers: By lower-case name.
        body: As it came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Cluster:
    """The API server, and the namespace that the commands are about.

    Attributes:
        namespace: The namespace.
    """

    def __init__(self, api_client: client.ApiClient, namespace: str) -> None:
        # Nothing is discovered: the kinds are known.
        self._client = DynamicClient(api_client, discoverer=lambda _client, _cache: None)
        self.namespace = namespace

    @classmethod
    def connect(cls, kubeconfig: Path | None, context: str | None, namespace: str | None) -> Self:
        """Connect as the kubeconfig says, or as the pod's service account where there is none.

        Args:
            kubeconfig: The file; None for KUBECONFIG or ``~/.kube/config``.
            context: Name of its context; None for the current one.
            namespace: None for that of the context.

        Raises:
            KubeconfigError: There is no kubeconfig, or it lacks the context.
        """
        # The library warns of each retry; the error that follows says it all.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        configuration = client.Configuration()
        try:
            usual = _connect_to_context(configuration, kubeconfig, context)
        except (ConfigException, OSError) as error:
            raise KubeconfigError(
                f"no cluster to talk to: {error}",
                hint="set KUBECONFIG, or give --kubeconfig and --context",
            ) from error
        configuration.retries = 1
        return cls(client.ApiClient(configuration), namespace or usual)

    def get(self, name: str) -> Manifest:
        """Return a ModelDeployment.

        Raises:
            NotFoundError: There is none of the name.
        """
        return self._json("get", self._path("ModelDeployment", name))

    def list_all(self) -> list[Manifest]:
        """Return every ModelDeployment of the namespace."""
        return self._items("ModelDeployment")

    def controller_revisions(self, name: str) -> list[Manifest]:
        """Return the records of a ModelDeployment's revisions, but for those of variants."""
        own = f"{_owned_by(name)},!{VARIANT_LABEL}"
        return self._items("ControllerRevision", label_selector=own)

    def pods(self, name: str) -> list[Manifest]:
        """Return the pods of a ModelDeployment."""
        return self._items("Pod", label_selector=_owned_by(name))

    def events(self, name: str) -> list[Manifest]:
        """Return the Events about a ModelDeployment."""
        about = f"involvedObject.kind=ModelDeployment,involvedObject.name={name}"
        return self._items("Event", field_selector=about)

    def watch(self, name: str) -> Iterator[Manifest | None]:
        """Yield a ModelDeployment as it is, and whenever it changes; None when it is gone.

        Raises:
            NotFoundError: There is none of the name.
        """
        yield self.get(name)
        only = {"field_selector": f"metadata.name={name}"}
        while True:
            # Where a watch may begin is told by a list: the object's own version may be too old.
            listed = self._json("get", self._path("ModelDeployment"), **only)
            yield next(iter(listed["items"]), None)
            version = listed["metadata"]["resourceVersion"]
            for event in self._changes("ModelDeployment", resource_version=version, **only):
                yield None if event["type"] == "DELETED" else event["raw_object"]

    def watch_pods(self, name: str) -> Iterator[Manifest]:
        """Yield the pods of a ModelDeployment as they are, and each that is new or changes."""
        while True:
            for event in self._changes("Pod", label_selector=_owned_by(name)):
                if event["type"] != "DELETED":
                    yield event["raw_object"]

    def _changes(self, kind: str, **query: str) -> Iterator[dict[str, Any]]:
        """Yield events of a watch until the API server has forgotten where it began."""
        try:
            with _translated():
                yield from self._client.watch(
                    self._resource(kind), namespace=self.namespace, watcher=Watch(), **query
                )
        except ApiError as error:
            if getattr(error.__cause__, "status", None) != HTTPStatus.GONE:
                raise

    def annotate(self, name: str, key: str, value: str) -> None:
        """Set one annotation of a ModelDeployment, whatever it was."""
        self._json(
            "patch",
            self._path("ModelDeployment", name),
            body={"metadata": {"annotations": {key: value}}},
            content_type=MERGE_PATCH,
            field_manager=FIELD_MANAGER,
        )

    def log(self, pod: str, query: Mapping[str, str]) -> Iterator[str]:
        """Yield the lines of a container's log as they come.

        Args:
            pod: Name of the pod.
            query: ``container``, ``follow``, ``previous``, ``sinceSeconds``, ``tailLines``.
        """
        response = self._send(
            "get",
            f"{self._path('Pod', pod)}/log",
            query_params=list(query.items()),
            timeout_s=None if query.get("follow") == "true" else REQUEST_TIMEOUT_S,
        )
        rest = b""
        with _translated():
            for chunk in response.stream():
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")

    def ask(self, service: str, question: Question) -> Answer:
        """Send a request to a Service through the API server, so that it needs no route.

        Args:
            service: Name of the Service; its port ``http`` is asked.
            question: What is asked.

        Returns:
            The model's answer, whatever its status.

        Raises:
            ApiError: The API server did not reach the model.
        """
        prefix = self._collection("v1", "services")
        try:
            response = self._send(
                "post",
                f"{prefix}/{service}:http/proxy{question.path}",
                body=question.body,
                content_type=question.content_type,
                header_params={"Accept": question.accept, **question.headers},
                timeout_s=question.timeout_s,
            )
        except ApiError as error:
            if isinstance(error.__cause__, client.ApiException) and _is_model(error.__cause__):
                return _answer(error.__cause__)
            raise
        headers = {key.lower(): value for key, value in response.headers.items()}
        return Answer(response.status, headers, response.data)

    def _items(self, kind: str, **query: str) -> list[Manifest]:
        items: list[Manifest] = self._json("get", self._path(kind), **query)["items"]
        return items

    def _json(self, verb: str, path: str, **arguments: Any) -> Manifest:
        with _translated():
            document: Manifest = json.loads(self._send(verb, path, **arguments).data)
        return document

    def _send(
        self, verb: str, path: str, *, timeout_s: float | None = REQUEST_TIMEOUT_S, **arguments: Any
    ) -> Any:
        with _translated():
            return self._client.request(
                verb, path, serialize=False, _request_timeout=timeout_s, **arguments
            )

    def _path(self, kind: str, name: str | None = None) -> str:
        path: str = self._resource(kind).path(name=name, namespace=self.namespace)
        return path

    def _collection(self, group_version: str, plural: str) -> str:
        return f"/api/{group_version}/namespaces/{self.namespace}/{plural}"

    def _resource(self, kind: str) -> Resource:
        group, version, plural = KINDS[kind]
        return Resource(
            prefix="apis" if group else "api",
            group=group or None,
            api_version=version,
            kind=kind,
            name=plural,
            namespaced=True,
            client=self._client,
        )


def _connect_to_context(
    configuration: client.Configuration, kubeconfig: Path | None, context: str | None
) -> str:
    """Fill in where the cluster is and who asks; returns the usual namespace."""
    named = kubeconfig or context or os.environ.get("KUBECONFIG")
    if not named and not Path("~/.kube/config").expanduser().exists() and ACCOUNT.exists():
        config.load_incluster_config(client_configuration=configuration)
        return ACCOUNT.read_text(encoding="utf-8").strip()
    file = str(kubeconfig) if kubeconfig else None
    config.load_kube_config(
        file, context=context, client_configuration=configuration, persist_config=False
    )
    contexts, current = config.list_kube_config_contexts(file)
    chosen = next((one for one in contexts if one["name"] == context), current)
    return str(chosen["context"].get("namespace") or FALLBACK_NAMESPACE)


def _owned_by(name: str) -> str:
    return f"{MODEL_DEPLOYMENT_LABEL}={name}"


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the client's exceptions into ours."""
    try:
        yield
    except client.ApiException as error:
        raise _meaning(error) from error
    except (HTTPError, OSError) as error:
        raise UnreachableError(
            f"the API server does not answer: {error}",
            hint="check the context of your kubeconfig, and the network",
        ) from error


def _meaning(error: client.ApiException) -> ApiError:
    said = _message(error)
    unknown = "could not find the requested resource" in said or "page not found" in str(error.body)
    if error.status == HTTPStatus.NOT_FOUND and unknown:
        hint = "is the chart installed? `kubectl get crd modeldeployments.modelyard.dev` tells"
        return NotFoundError("the cluster does not know ModelDeployments", hint=hint)
    if error.status == HTTPStatus.NOT_FOUND:
        return NotFoundError(said, hint="`kubectl get mdep -A` lists what there is")
    if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return ForbiddenError(said, hint="ask for a role that allows it, such as `edit`")
    return ApiError(said)


def _message(error: client.ApiException) -> str:
    """Return the API server's own sentence."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return f"the API server answered {error.status} {error.reason or ''}".rstrip()


def _is_model(error: client.ApiException) -> bool:
    """Tell a model's answer from the API server's own, which is an object of kind Status."""
    try:
        document = json.loads(error.body or "")
    except (TypeError, ValueError):
        return False
    return isinstance(document, dict) and document.get("kind") != "Status"


def _answer(error: client.ApiException) -> Answer:
    headers = {key.lower(): value for key, value in (error.headers or {}).items()}
    body = error.body or ""
    return Answer(error.status, headers, body.encode() if isinstance(body, str) else body)
