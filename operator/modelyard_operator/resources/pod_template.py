"""The pod template of a revision: everything that a revision's hash covers."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelyard_operator import runtime_contract as contract
from modelyard_operator.files import Contents, files_hash
from modelyard_operator.resources import labels, names
from modelyard_operator.resources.placement import build_placement
from modelyard_operator.resources.pod_overrides import merge_pod_overrides
from modelyard_operator.spec import ModelDeployment, ModelDeploymentSpec

Manifest = dict[str, Any]

HTTPS: Final = "https"
GRPCS: Final = "grpcs"
"""Names of the ports with TLS, of pods and Services."""
DRAIN_MARGIN_S: Final = 15
"""Between the runtime's own drain limit and the kubelet's kill."""
UNPRIVILEGED: Final[Manifest] = {
    "runAsNonRoot": True,
    "runAsUser": contract.USER_ID,
    "runAsGroup": contract.USER_ID,
    "fsGroup": contract.USER_ID,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Of the pod."""
RESTRICTED: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""Of each container."""


def build_pod_template(
    model_deployment: ModelDeployment,
    files: Contents,
    *,
    image: str,
    pull_policy: str,
    revision: str,
    version: str,
) -> Manifest:
    """Build the pod template of one revision.

    Args:
        model_deployment: Only its name and the serving fields of its spec are read.
        files: The revision's files; the template carries the hash of them.
        image: Runtime image, from the spec or from the operator's catalogue.
        pull_policy: Pull policy of that image.
        revision: Name of the revision; goes into labels and environment.
        version: The model version that responses and metrics carry.

    Raises:
        InvalidSpecError: ``podTemplate`` holds a field that is not open to users.
    """
    spec = model_deployment.spec
    shared = {"image": image, "imagePullPolicy": pull_policy}
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": UNPRIVILEGED,
        "terminationGracePeriodSeconds": spec.runtime.timeouts.drain_seconds + DRAIN_MARGIN_S,
        "initContainers": [
            _fetch_container(spec, model_deployment.served_name, revision, version) | shared
        ],
        "containers": [
            _runtime_container(spec, model_deployment.served_name, revision, version) | shared
        ],
        "volumes": _volumes(model_deployment, revision),
        **build_placement(spec, labels.revision_selector(model_deployment.name, revision)),
    }
    if spec.service_account_name:
        pod["serviceAccountName"] = spec.service_account_name
    if spec.runtime.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": ref.name} for ref in spec.runtime.image_pull_secrets]
    own = labels.for_revision(model_deployment.name, revision)
    metadata: Manifest = {"labels": own | labels.for_variant(model_deployment.variant)}
    if files:
        metadata["annotations"] = {labels.FILES_HASH: files_hash(files)}
    template = {"metadata": metadata, "spec": pod}
    merged = merge_pod_overrides(template, spec.pod_template)
    for container in (*merged["spec"]["initContainers"], *merged["spec"]["containers"]):
        container.setdefault("securityContext", RESTRICTED)  # sidecars live under the same rules
    return merged


def speaks_tls(template: Mapping[str, Any]) -> bool:
    """Tell whether pods of a template have ports for TLS."""
    containers = template.get("spec", {}).get("containers") or ()
    return any(
        port.get("name") == HTTPS
        for container in containers
        if container.get("name") == "runtime"
        for port in container.get("ports") or ()
    )


def _ports(spec: ModelDeploymentSpec) -> list[Manifest]:
    ports = {
        "http": contract.HTTP_PORT,
        "grpc": contract.GRPC_PORT,
        "metrics": contract.METRICS_PORT,
    }
    if spec.exposure.backend_tls:
        ports |= {HTTPS: contract.HTTPS_PORT, GRPCS: contract.GRPCS_PORT}
    return [
        {"name": name, "containerPort": number, "protocol": "TCP"} for name, number in ports.items()
    ]


def _environment(variables: Mapping[str, str]) -> list[Manifest]:
    # The API server drops an empty value, which would read as drift.
    return [{"name": name, "value": value} for name, value in variables.items() if value]


def _fetch_container(
    spec: ModelDeploymentSpec, served_name: str, revision: str, version: str
) -> Manifest:
    environment = contract.fetch_environment(
        spec.model, served_name, revision=revision, version=version
    )
    container: Manifest = {
        "name": "model-fetch",
        "command": list(contract.FETCH_COMMAND),
        "env": _environment(environment),
        "volumeMounts": [_mount("models", contract.MODEL_REPOSITORY), _mount("tmp", "/tmp")],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if spec.model.credentials_secret_ref:
        secret = {"secretRef": {"name": spec.model.credentials_secret_ref.name}}
        container["envFrom"] = [secret]
    if spec.model.ca_bundle_config_map_ref:
        container["volumeMounts"].append(_mount("ca", contract.CA_DIR, read_only=True))
    if contract.claim_name(spec.model.uri):
        container["volumeMounts"].append(_mount("claim", contract.CLAIM_PATH, read_only=True))
    # A limit of memory protects the node from the download too; devices stay the runtime's.
    if resources := _compute_resources(spec, devices=False):
        container["resources"] = resources
    return container


def _runtime_container(
    spec: ModelDeploymentSpec, served_name: str, revision: str, version: str
) -> Manifest:
    environment = contract.runtime_environment(
        spec, served_name, revision=revision, version=version
    )
    container: Manifest = {
        "name": "runtime",
        "command": list(contract.RUNTIME_COMMAND),
        "env": [*_environment(environment), *spec.runtime.env],
        "ports": _ports(spec),
        "volumeMounts": [
            _mount("models", contract.MODEL_REPOSITORY, read_only=True),
            _mount("tmp", "/tmp"),
            _mount("shm", "/dev/shm"),
            _mount("directives", contract.DIRECTIVES_DIR, read_only=True),
            _mount("files", contract.FILES_DIR, read_only=True),
            _mount("keys", contract.KEYS_DIR, read_only=True),
        ],
        "startupProbe": _probe(contract.LIVE_PATH, period=1, timeout=5, failures=120),
        "livenessProbe": _probe(contract.LIVE_PATH, period=10, timeout=5, failures=3),
        "readinessProbe": _probe(contract.READY_PATH, period=2, timeout=5, failures=2),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if spec.runtime.args:
        container["args"] = list(spec.runtime.args)
    if spec.exposure.backend_tls:
        container["volumeMounts"].append(_mount("tls", contract.TLS_DIR, read_only=True))
    if contract.claim_name(spec.model.uri):
        container["volumeMounts"].append(_mount("claim", contract.CLAIM_PATH, read_only=True))
    if resources := _compute_resources(spec, devices=True):
        container["resources"] = resources
    return container


def _compute_resources(spec: ModelDeploymentSpec, *, devices: bool) -> Manifest:
    requests: Manifest = dict(spec.resources.requests)
    limits: Manifest = dict(spec.resources.limits)
    if devices and spec.accelerator:
        # An extended resource is never overcommitted: request and limit are one number.
        limits[spec.accelerator.resource_name] = str(spec.accelerator.count)
        requests[spec.accelerator.resource_name] = str(spec.accelerator.count)
    return {key: value for key, value in (("requests", requests), ("limits", limits)) if value}


def _mount(name: str, path: str, *, read_only: bool = False) -> Manifest:
    mount: Manifest = {"name": name, "mountPath": path}
    return mount | {"readOnly": True} if read_only else mount


def _probe(path: str, *, period: int, timeout: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }


def _volumes(model_deployment: ModelDeployment, revision: str) -> list[Manifest]:
    spec = model_deployment.spec
    # Optional, so that pods start without it, and keys can be handed out to running ones.
    keys = {
        "secretName": spec.exposure.auth.secret_name or names.keys(model_deployment.name),
        "optional": True,
        "defaultMode": 0o440,
    }
    volumes: list[Manifest] = [
        {"name": "models", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "directives", "configMap": _config_map(names.directives(revision))},
        {"name": "files", "configMap": _config_map(names.files(revision))},
        {"name": "keys", "secret": keys},
    ]
    if tls := spec.exposure.backend_tls:
        volumes.append(
            {"name": "tls", "secret": {"secretName": tls.secret_name, "defaultMode": 0o440}}
        )
    if ref := spec.model.ca_bundle_config_map_ref:
        items = [{"key": ref.key, "path": contract.CA_KEY}]
        volumes.append({"name": "ca", "configMap": _config_map(ref.name, items)})
    if claim := contract.claim_name(spec.model.uri):
        source = {"claimName": claim, "readOnly": True}
        volumes.append({"name": "claim", "persistentVolumeClaim": source})
    return volumes


def _config_map(name: str, items: Sequence[Manifest] = ()) -> Manifest:
    source: Manifest = {"name": name, "defaultMode": 0o444}
    return source | {"items": list(items)} if items else source
