"""The custom resource as frozen types: the one place that knows its field names.

``crds/modeldeployments.yaml`` describes the same fields to the API server; ``tests/contract`` holds
the two equal. The API server has applied the schema's defaults and CEL rules before an object gets
here, so parsing fails only for an object stored under another version of the schema.
"""

from modelyard_operator.spec.base import FileRef, Fraction, ModelFormat, NameRef
from modelyard_operator.spec.model_deployment import (
    SERVING_FIELDS,
    AcceleratorSpec,
    AuditSpec,
    AuthSpec,
    BackendTLSSpec,
    ExposureSpec,
    GatewayRef,
    ModelDeployment,
    ModelDeploymentSpec,
    ModelSpec,
    PodTemplateSpec,
    RateLimitSpec,
    ScalingSpec,
    TensorSpec,
    TracingSpec,
)
from modelyard_operator.spec.rollout import (
    DEFAULT_METRICS,
    DEFAULT_STEPS,
    AnalysisSpec,
    CapacitySpec,
    FreezeSpec,
    HeaderMatch,
    MatchSpec,
    MetricSpec,
    Milliseconds,
    RolloutSpec,
    ShadowSpec,
    StepSpec,
    StickinessSpec,
    VerificationSpec,
)
from modelyard_operator.spec.variants import VariantModelSpec, VariantSpec

__all__ = [
    "DEFAULT_METRICS",
    "DEFAULT_STEPS",
    "SERVING_FIELDS",
    "AcceleratorSpec",
    "AnalysisSpec",
    "AuditSpec",
    "AuthSpec",
    "BackendTLSSpec",
    "CapacitySpec",
    "ExposureSpec",
    "FileRef",
    "Fraction",
    "FreezeSpec",
    "GatewayRef",
    "HeaderMatch",
    "MatchSpec",
    "MetricSpec",
    "Milliseconds",
    "ModelDeployment",
    "ModelDeploymentSpec",
    "ModelFormat",
    "ModelSpec",
    "NameRef",
    "PodTemplateSpec",
    "RateLimitSpec",
    "RolloutSpec",
    "ScalingSpec",
    "ShadowSpec",
    "StepSpec",
    "StickinessSpec",
    "TensorSpec",
    "TracingSpec",
    "VariantModelSpec",
    "VariantSpec",
    "VerificationSpec",
]
