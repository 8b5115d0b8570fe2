"""Every name that the operator gives, derived from the ModelDeployment's own.

The CRD holds ``metadata.name`` to 50 characters of a DNS label, so that each of these fits where it
is used: Services take a DNS label of 63 characters.
"""


def revision(model_deployment: str, hash8: str) -> str:
    """Name of a revision, and of its Deployment, Service, autoscaler and ControllerRevision."""
    return f"{model_deployment}-{hash8}"


def directives(revision: str) -> str:
    """ConfigMap with what may change without a new revision."""
    return f"{revision}-directives"


def files(revision: str) -> str:
    """Immutable ConfigMap with the files of a revision."""
    return f"{revision}-files"


def keys(model_deployment: str) -> str:
    """Secret with the keys of callers, unless the spec names another one."""
    return f"{model_deployment}-auth"


def cluster_service(model_deployment: str) -> str:
    """Service that callers inside the cluster use; it follows the stable revision."""
    return model_deployment


def ingress(model_deployment: str) -> str:
    """The primary Ingress, which owns all annotations that are not the canary's."""
    return model_deployment


def canary_ingress(model_deployment: str) -> str:
    """The second Ingress of the pair, which carries the weight."""
    return f"{model_deployment}-canary"


def network_policy(model_deployment: str) -> str:
    """The NetworkPolicy of the pods of all revisions."""
    return model_deployment


def grpc_ingress(model_deployment: str) -> str:
    """The primary Ingress of the gRPC port; no other ModelDeployment can have a name with a dot."""
    return f"{model_deployment}.grpc"


def grpc_canary_ingress(model_deployment: str) -> str:
    """The second Ingress of the gRPC port."""
    return f"{model_deployment}.grpc-canary"


def http_route(model_deployment: str) -> str:
    """The HTTPRoute, and the policies that are attached to it."""
    return model_deployment


def sticky_cookie(prefix: str, candidate: str) -> str:
    """Cookie of one candidate's rollouts, so that what an earlier one has set means nothing."""
    return f"{prefix}-{candidate.rpartition('-')[2]}"


def certified_host(model_deployment: str, namespace: str) -> str:
    """Name in the certificate of the pods, which proxies ask for: that of the cluster's Service."""
    return f"{cluster_service(model_deployment)}.{namespace}.svc"


def service_url(service: str, namespace: str) -> str:
    """Address of a Service for who is inside the cluster, without a slash at its end."""
    return f"http://{service}.{namespace}.svc"
