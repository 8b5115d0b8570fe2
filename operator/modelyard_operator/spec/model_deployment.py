"""The whole ModelDeployment: ``spec`` but for ``spec.rollout``, and the object around it."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from modelyard_operator.errors import InvalidSpecError
from modelyard_operator.spec.base import (
    FileRef,
    Fraction,
    KeyRef,
    ModelFormat,
    NameRef,
    Quantities,
    Spec,
)
from modelyard_operator.spec.rollout import RolloutSpec
from modelyard_operator.spec.variants import VariantSpec

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "BF16", "FP32", "FP64", "BYTES",
]  # fmt: skip
"""Element types of the Open Inference Protocol."""


class TensorSpec(Spec):
    """One tensor that the model takes or gives; a size of -1 is any size."""

    name: str
    dtype: Datatype
    shape: tuple[int, ...]


class ModelSpec(Spec):
    """What is served: where the artifact lies, what it is and how it may be read."""

    name: str | None = None
    version: str | None = None
    uri: str
    digest: str | None = None
    format: ModelFormat = "Auto"
    allow_pickle: bool = False
    endpoint_url: str | None = Field(default=None, alias="endpointURL")
    include_patterns: tuple[str, ...] = ()
    credentials_secret_ref: NameRef | None = None
    ca_bundle_config_map_ref: KeyRef | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


class BatchingSpec(Spec):
    """How requests share a forward pass; what is None is left to ``model.yaml`` and the runtime."""

    max_batch_size: int | None = None
    max_delay_milliseconds: int | None = None
    target_latency_milliseconds: int | None = None
    buckets: tuple[int, ...] = ()
    max_queue_size: int | None = None


class ConcurrencySpec(Spec):
    """How much one replica takes on at once."""

    max_in_flight_per_replica: int = 256
    threads: int | None = None


class TimeoutsSpec(Spec):
    """Time limits of the runtime, in seconds."""

    request_seconds: int = 30
    stream_idle_seconds: int = 60
    startup_seconds: int = 1800
    drain_seconds: int = 45


class WarmupSpec(Spec):
    """Requests that are answered before a pod turns ready."""

    requests: tuple[FileRef, ...] = ()
    iterations: int | None = None


class RuntimeSpec(Spec):
    """The server that runs the model."""

    name: Literal["modelyard"] = "modelyard"
    image: str | None = None
    env: tuple[dict[str, Any], ...] = ()
    args: tuple[str, ...] = ()
    image_pull_secrets: tuple[NameRef, ...] = ()
    handler_ref: FileRef | None = None
    device: Literal["Auto", "CPU", "CUDA"] = "Auto"
    batching: BatchingSpec = BatchingSpec()
    concurrency: ConcurrencySpec = ConcurrencySpec()
    timeouts: TimeoutsSpec = TimeoutsSpec()
    warmup: WarmupSpec = WarmupSpec()


class ResourcesSpec(Spec):
    """CPU and memory of the runtime container."""

    requests: Quantities = {}
    limits: Quantities = {}


class AcceleratorSpec(Spec):
    """Devices that each pod gets, and which products are preferred, best first."""

    resource_name: str = "nvidia.com/gpu"
    count: int = 1
    products: tuple[str, ...] = ()


class SchedulingSpec(Spec):
    """Where pods may run; the core/v1 shapes, passed through."""

    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    affinity: dict[str, Any] = {}
    topology_spread_constraints: tuple[dict[str, Any], ...] = ()
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    scheduler_name: str | None = None


class PodTemplateSpec(Spec):
    """Merged into the pod template: what the typed fields do not cover."""

    metadata: dict[str, Any] = {}
    spec: dict[str, Any] = {}


class ScalingMetric(Spec):
    """One signal of the autoscaler: utilisation of a resource, in percent of its request."""

    type: Literal["Resource"]
    resource: Literal["cpu", "memory"]
    target: int


class ScalingSpec(Spec):
    """Bounds and signals of the autoscaler of each revision."""

    backend: Literal["HPA"] = "HPA"
    min_replicas: int = 1
    max_replicas: int
    metrics: tuple[ScalingMetric, ...]
    behavior: dict[str, Any] = {}


class DisruptionBudgetSpec(Spec):
    """Voluntary disruptions that a revision tolerates; exactly one of the two is set."""

    max_unavailable: int | str | None = None
    min_available: int | str | None = None


class TLSSpec(Spec):
    """The certificate that the proxy serves."""

    secret_name: str


class BackendTLSSpec(Spec):
    """What pods and proxies encrypt with what is between them.

    Attributes:
        secret_name: Secret of the pods, with ``tls.crt`` and ``tls.key``; Ingresses trust its ``ca.crt``.
        ca_config_map_name: ConfigMap whose ``ca.crt`` Gateways trust, and the operator.
    """

    secret_name: str
    ca_config_map_name: str


class AuthSpec(Spec):
    """Who may ask; keys come from a Secret that is always mounted, so that they can be added later."""

    type: Literal["None", "APIKey", "JWT"] = "None"
    secret_name: str | None = None
    issuer: str | None = None
    audiences: tuple[str, ...] = ()
    jwks_uri: str | None = Field(default=None, alias="jwksURI")


class RateLimitSpec(Spec):
    """How much one caller may ask of each pod."""

    requests_per_second: int
    burst: int | None = None
    concurrency: int | None = None


class GatewayRef(Spec):
    """A Gateway, and one of its listeners if not all that fit are meant.

    Attributes:
        name: Name of the Gateway.
        namespace: Its namespace; None is the ModelDeployment's own.
        section_name: Name of the listener.
    """

    name: str
    namespace: str | None = None
    section_name: str | None = None


class ExposureSpec(Spec):
    """How requests from outside reach the model."""

    dialect: Literal["Auto", "Ingress", "Gateway", "None"] = "Auto"
    ingress_class_name: str | None = None
    gateway_ref: GatewayRef | None = None
    hosts: tuple[str, ...] = ()
    path: str = "/"
    annotations: dict[str, str] = {}
    tls: TLSSpec | None = None
    backend_tls: BackendTLSSpec | None = Field(default=None, alias="backendTLS")
    timeout_seconds: int = 300
    max_body_bytes: int = 33554432
    auth: AuthSpec = AuthSpec()
    rate_limit: RateLimitSpec | None = None
    strict: bool = True
    network_policy: Literal["Managed", "None"] = "Managed"
    allow_from: tuple[str, ...] = ()

    @property
    def path_prefix(self) -> str:
        """The path as the runtime strips it: empty for the root, else without a slash at the end."""
        return self.path.rstrip("/")


class TracingSpec(Spec):
    """Where spans go."""

    otlp_endpoint: str
    sampling_ratio: Fraction = "1"


class AuditSpec(Spec):
    """What is recorded of each prediction."""

    mode: Literal["None", "Metadata", "Payload"] = "None"
    sink: str = "stdout"
    sampling_ratio: Fraction = "1"
    redact: tuple[str, ...] = ()


class AccessLogSpec(Spec):
    """Which requests are logged; errors always are."""

    sampling_ratio: Fraction = "0"


class ObservabilitySpec(Spec):
    """What the pods tell about their requests, beside metrics."""

    tracing: TracingSpec | None = None
    audit: AuditSpec | None = None
    access_log: AccessLogSpec | None = None


class ModelDeploymentSpec(Spec):
    """``spec`` of a ModelDeployment."""

    suspend: bool = False
    replicas: int | None = None
    service_account_name: str | None = None
    model: ModelSpec
    runtime: RuntimeSpec = RuntimeSpec()
    resources: ResourcesSpec = ResourcesSpec()
    accelerator: AcceleratorSpec | None = None
    scheduling: SchedulingSpec = SchedulingSpec()
    pod_template: PodTemplateSpec = PodTemplateSpec()
    scaling: ScalingSpec | None = None
    pod_disruption_budget: DisruptionBudgetSpec = DisruptionBudgetSpec(max_unavailable=1)
    rollout: RolloutSpec = RolloutSpec()
    variants: tuple[VariantSpec, ...] = ()
    exposure: ExposureSpec = ExposureSpec()
    observability: ObservabilitySpec = ObservabilitySpec()

    @property
    def floor(self) -> int:
        """Pods that a revision with all of the requests has, or its autoscaler leaves it."""
        if self.scaling:
            return self.scaling.min_replicas
        return 1 if self.replicas is None else self.replicas

    @property
    def serving(self) -> "ModelDeploymentSpec":
        """The part that reaches the pod template, the rest at its defaults."""
        return ModelDeploymentSpec(
            **{name: getattr(self, name) for name in SERVING_FIELDS},
            rollout=RolloutSpec(verification=self.rollout.verification),
            exposure=ExposureSpec(
                auth=AuthSpec(secret_name=self.exposure.auth.secret_name),
                backend_tls=self.exposure.backend_tls,
            ),
        )


SERVING_FIELDS = frozenset(
    {
        "service_account_name",
        "model",
        "runtime",
        "resources",
        "accelerator",
        "scheduling",
        "pod_template",
    }
)
"""Parts of the spec that reach the pod template as a whole: an edit of one makes a revision."""


class ModelDeployment(Spec):
    """One ModelDeployment, as read from the API server.

    Attributes:
        variant: Name of the variant that this is a view of; None: it is the whole.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    annotations: dict[str, str] = {}
    spec: ModelDeploymentSpec
    status: dict[str, Any] = {}
    variant: str | None = None

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Self:
        """Turn the API server's JSON into types.

        Args:
            raw: The object, with ``metadata``, ``spec`` and, once written, ``status``.

        Raises:
            InvalidSpecError: A field does not have the type that this version of the operator knows.
        """
        metadata = raw["metadata"]
        try:
            return cls(
                name=metadata["name"],
                namespace=metadata["namespace"],
                uid=metadata["uid"],
                generation=metadata["generation"],
                resource_version=metadata["resourceVersion"],
                annotations=metadata.get("annotations") or {},
                spec=raw.get("spec") or {},
                status=raw.get("status") or {},
            )
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InvalidSpecError(f"{field}: {first['msg']}, got {first['input']!r}") from error

    def view_of(self, variant: VariantSpec) -> Self:
        """Return the object as it would be if it served a variant alone.

        Golden requests are not the variant's: their answers were recorded from another model.
        """
        model, replicas = self.spec.model, self.spec.replicas
        if variant.replicas is not None and replicas != 0:  # who scales to zero means all
            replicas = variant.replicas
        changes = {
            "model": model.model_copy(update=variant.overrides(model.endpoint_url)),
            "replicas": replicas,
            "rollout": self.spec.rollout.model_copy(update={"verification": None}),
        }
        spec = self.spec.model_copy(update=changes)
        return self.model_copy(update={"spec": spec, "variant": variant.name})

    @property
    def served_name(self) -> str:
        """Name under which the runtime serves the model."""
        return self.spec.model.name or self.name
