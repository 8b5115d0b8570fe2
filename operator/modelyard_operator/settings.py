"""All that the operator reads from its environment; read once, in ``__main__``."""

from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

from modelyard_operator.spec import GatewayRef, ModelDeploymentSpec

IngressProfile = Literal["traefik-nginx", "ingress-nginx", "none"]
"""What stands behind an IngressClass; the class's controller string does not tell them apart."""
GatewayProfile = Literal["envoy-gateway", "traefik", "generic"]
"""What stands behind a GatewayClass; ``generic`` is trusted with the core of the Gateway API alone."""
Profile = IngressProfile | GatewayProfile
Dialect = Literal["Ingress", "Gateway"]
"""Kinds of objects that routes are written as."""
PullPolicy = Literal["Always", "IfNotPresent", "Never"]

FORMATS_WITHOUT_TORCH: Final = frozenset({"ONNX", "Sklearn", "XGBoost", "LightGBM"})


@dataclass(frozen=True)
class RuntimeCatalogue:
    """Images of the runtime ``modelyard``.

    Attributes:
        torch: Loads every format.
        slim: Without torch; used where the spec's format needs none.
        pull_policy: Pull policy of either.
    """

    torch: str
    slim: str
    pull_policy: PullPolicy = "IfNotPresent"

    def image(self, spec: ModelDeploymentSpec) -> str:
        """Return the image for a spec: its own, or the smallest that loads its format."""
        if spec.runtime.image:
            return spec.runtime.image
        return self.slim if spec.model.format in FORMATS_WITHOUT_TORCH else self.torch


class OperatorSettings(BaseSettings):
    """Environment of the operator, prefix ``MODELYARD_OPERATOR_``."""

    model_config = SettingsConfigDict(env_prefix="MODELYARD_OPERATOR_", frozen=True)

    namespaces: tuple[str, ...] = ()
    """Namespaces to watch; empty means all of them."""
    runtime_image: str = "modelyard/runtime:latest-torch"
    """Image of the runtime with torch."""
    runtime_image_slim: str = "modelyard/runtime:latest-slim"
    """Image of the runtime without torch."""
    runtime_image_pull_policy: PullPolicy = "IfNotPresent"
    allowed_registries: tuple[str, ...] = ()
    """Prefixes that ``spec.runtime.image`` may start with; empty means any."""
    default_dialect: Literal["Auto", "Ingress", "Gateway"] = "Auto"
    """What ``exposure.dialect: Auto`` means; Auto decides by what the object and these settings name."""
    ingress_class_profiles: dict[str, IngressProfile] = Field(default_factory=dict)
    """Profile of each IngressClass; a class that is not listed gets no canary Ingress."""
    default_ingress_class: str = ""
    """Class of ModelDeployments that name none; empty leaves it to the cluster's default."""
    gateway_class_profiles: dict[str, GatewayProfile] = Field(default_factory=dict)
    """Profile of each GatewayClass; that of a class that is not listed follows from its controller."""
    default_gateway: GatewayRef | None = None
    """Gateway of ModelDeployments that name none; None: there is none."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    workers: PositiveInt = 8
    """Reconciles that may run at once."""
    proxy_namespaces: tuple[str, ...] = ()
    """Namespaces whose pods, the proxies, may ask models; empty: every source may."""
    prometheus_namespaces: tuple[str, ...] = ()
    """Namespaces whose pods may read the metrics of models; the operator may in any case."""
    prometheus_url: str = ""
    """Address of Prometheus, for analyses that ask it; empty: there is none."""
    pod_name: str = "local"
    pod_namespace: str = "default"
    http_port: int = 8080
    """Port of ``/livez`` and ``/readyz``."""
    metrics_port: int = 9090
    """Port of ``/metrics``."""

    @property
    def catalogue(self) -> RuntimeCatalogue:
        """Images that revisions are built with."""
        return RuntimeCatalogue(
            torch=self.runtime_image,
            slim=self.runtime_image_slim,
            pull_policy=self.runtime_image_pull_policy,
        )

    def profile(self, ingress_class: str) -> IngressProfile:
        """Return what is known of the proxy behind a class; ``none`` when nothing is."""
        return self.ingress_class_profiles.get(ingress_class, "none")
