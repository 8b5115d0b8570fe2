"""``directives.json``: what running pods must know and what needs no new revision.

A key that is left out stands for the runtime's default; ``modelyard_runtime.directives`` reads it.

References:
    docs/reference/runtime-contract.md, "Directives".
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from modelyard_operator.spec import (
    AuditSpec,
    AuthSpec,
    ModelDeployment,
    RateLimitSpec,
    TracingSpec,
)

Verification = Literal["Gate", "Report"]
"""Whether a golden request that disagrees keeps a pod from serving."""


@dataclass(frozen=True)
class Copies:
    """Copies of live requests, as one side of the comparison is told of them.

    Attributes:
        token: By it the candidate knows a copy, which then counts nowhere.
        url: Where stable sends them; None for the candidate.
        percent: Share of the requests that are copied.
    """

    token: str
    url: str | None = None
    percent: int = 0


@dataclass(frozen=True)
class Keepsake:
    """A cookie that a revision gives to its clients, so that the proxy brings them back to it.

    Attributes:
        cookie: Name of the cookie.
        value: ``always`` leads to the candidate, ``never`` to stable.
    """

    cookie: str
    value: Literal["always", "never"]


def render_directives(
    model_deployment: ModelDeployment,
    verification: Verification | None = None,
    copies: Copies | None = None,
    keepsake: Keepsake | None = None,
) -> str:
    """Return the content of ``directives.json``.

    Args:
        model_deployment: Whose pods are told.
        verification: What golden requests decide; None for a revision that has none.
        copies: The revision's side of a comparison; None while nothing is compared.
        keepsake: What clients are given; None while requests are not divided.
    """
    exposure = model_deployment.spec.exposure
    observability = model_deployment.spec.observability
    access_log = observability.access_log
    directives = {
        "pathPrefix": exposure.path_prefix,
        "maxBodyBytes": exposure.max_body_bytes,
        "auth": _auth(exposure.auth) if exposure.auth.type != "None" else None,
        "rateLimit": _rate_limit(exposure.rate_limit) if exposure.rate_limit else None,
        "audit": _audit(observability.audit) if observability.audit else None,
        "accessLog": {"samplingRatio": float(access_log.sampling_ratio)} if access_log else None,
        "tracing": _tracing(observability.tracing) if observability.tracing else None,
        "verification": verification,
        **(_copies(copies) if copies else {}),
        "stickiness": asdict(keepsake) if keepsake else None,
    }
    return json.dumps(_set(directives), sort_keys=True)


def directives_hash(
    model_deployment: ModelDeployment,
    verification: Verification | None = None,
    copies: Copies | None = None,
    keepsake: Keepsake | None = None,
) -> str:
    """Return the hash that a pod reports once it has applied the directives."""
    text = render_directives(model_deployment, verification, copies, keepsake)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _copies(copies: Copies) -> dict[str, Any]:
    if copies.url is None:
        return {"shadowToken": copies.token}
    return {"shadow": {"url": copies.url, "percent": copies.percent, "token": copies.token}}


def _auth(auth: AuthSpec) -> dict[str, Any]:
    audiences = list(auth.audiences) or None
    fields = {"issuer": auth.issuer, "audiences": audiences, "jwksURI": auth.jwks_uri}
    return {"type": auth.type, **_set(fields)}


def _rate_limit(limit: RateLimitSpec) -> dict[str, Any]:
    fields = {"burst": limit.burst, "concurrency": limit.concurrency}
    return {"requestsPerSecond": limit.requests_per_second, **_set(fields)}


def _audit(audit: AuditSpec) -> dict[str, Any]:
    return {
        "mode": audit.mode,
        "sink": audit.sink,
        "samplingRatio": float(audit.sampling_ratio),
        "redact": list(audit.redact),
    }


def _tracing(tracing: TracingSpec) -> dict[str, Any]:
    return {
        "otlpEndpoint": tracing.otlp_endpoint,
        "samplingRatio": float(tracing.sampling_ratio),
    }


def _set(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
