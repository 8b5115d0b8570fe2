"""What the operator may change without a new revision: a file, hot-reloaded."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modelyard_runtime.metrics import RuntimeMetrics

POLL_S: Final = 1.0
"""How often the file is read. The kubelet swaps a symlink, which events on the file would miss."""

_log = structlog.stdlib.get_logger(__name__)


Ratio = Annotated[float, Field(ge=0, le=1)]
WebAddress = Annotated[str, Field(pattern=r"^https?://[^/\s]\S*$", max_length=2048)]


class _Part(BaseModel):
    """A part of the contract; keys that this runtime does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class AuthDirective(_Part):
    """Who may ask."""

    type: Literal["None", "APIKey", "JWT"] = "None"
    issuer: str = ""
    """What a token's ``iss`` must be; required with ``JWT``."""
    audiences: tuple[str, ...] = ()
    """One of these must be a token's ``aud``; empty: the token must be for nobody in particular."""
    jwks_uri: WebAddress | None = Field(default=None, alias="jwksURI")
    """Where the issuer's keys are; None: in the folder of keys."""

    @model_validator(mode="after")
    def _issuer_is_known(self) -> Self:
        if self.type == "JWT" and not self.issuer:
            raise ValueError("'issuer' is required with type JWT")
        return self


class RateLimit(_Part):
    """How much one caller may ask, in each process."""

    requests_per_second: Annotated[float, Field(gt=0)] = Field(alias="requestsPerSecond")
    burst: Annotated[int, Field(ge=1)] | None = None
    """Requests that may come at once; None: those of one second."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Requests of one caller that may be inside at a time; None: any number."""


class AuditDirective(_Part):
    """What is recorded of each prediction."""

    mode: Literal["None", "Metadata", "Payload"] = "None"
    sink: Annotated[str, Field(pattern=r"^(stdout|/.+)$")] = "stdout"
    """``stdout``, or the path of a file."""
    sampling_ratio: Ratio = Field(default=1.0, alias="samplingRatio")
    """Share of the records that carry the payload; there is a record of every prediction."""
    redact: tuple[str, ...] = ()
    """Globs of tensor names whose values are left out."""


class AccessLogDirective(_Part):
    """Which requests are logged; errors always are."""

    sampling_ratio: Ratio = Field(default=0.0, alias="samplingRatio")


class TracingDirective(_Part):
    """Where spans go."""

    otlp_endpoint: WebAddress = Field(alias="otlpEndpoint")
    """Base of OTLP over HTTP, usually port 4318."""
    sampling_ratio: Ratio = Field(default=1.0, alias="samplingRatio")
    """Share of the traces that begin here; a caller's own decision is followed."""


class ShadowDirective(_Part):
    """Where copies of live requests go."""

    url: WebAddress
    percent: Annotated[float, Field(ge=0, le=100)]
    token: str = Field(default="", repr=False)


class StickinessDirective(_Part):
    """A cookie by which the proxy leads a client back to the revision that has answered it."""

    cookie: Annotated[str, Field(pattern=r"^[-A-Za-z0-9_]+$")]
    value: Annotated[str, Field(pattern=r"^[a-z]+$")]


class Directives(_Part):
    """The contract's directives."""

    path_prefix: str = Field(default="", alias="pathPrefix", pattern=r"^(/.*[^/])?$")
    """Stripped from the front of a request path when present."""
    max_body_bytes: int = Field(default=32 * 1024 * 1024, alias="maxBodyBytes", gt=0, strict=True)
    """Larger bodies are refused."""
    auth: AuthDirective = AuthDirective()
    rate_limit: RateLimit | None = Field(default=None, alias="rateLimit")
    audit: AuditDirective = AuditDirective()
    access_log: AccessLogDirective = Field(default=AccessLogDirective(), alias="accessLog")
    tracing: TracingDirective | None = None
    shadow: ShadowDirective | None = None
    shadow_token: str = Field(default="", alias="shadowToken", repr=False)
    """Requests that carry it are copies; empty: there are none."""
    stickiness: StickinessDirective | None = None
    verification: Literal["Gate", "Report"] = "Gate"
    """Whether a golden request that disagrees keeps the process from serving."""


class DirectivesFile:
    """The last good directives, and the hash of the bytes they came from.

    Args:
        path: The file; None keeps the defaults for ever.
        metrics: Where reloads are counted.
    """

    def __init__(self, path: Path | None, metrics: RuntimeMetrics) -> None:
        self._path = path
        self._metrics = metrics
        self._seen: bytes | None = None
        self._unreadable = False
        self._followers: list[Callable[[Directives], None]] = []
        self.current = Directives()
        self.hash: str | None = None

    @property
    def applied(self) -> bool:
        """Whether what holds is what was wanted.

        A file that has not been read yet may ask for authentication: until it says so, nobody can
        be let in.
        """
        return self._path is None or self.hash is not None

    def follow(self, follower: Callable[[Directives], None]) -> None:
        """Tell a part of the process of the directives, now and whenever they change.

        Args:
            follower: Called on the event loop.
        """
        self._followers.append(follower)
        follower(self.current)

    def poll(self) -> None:
        """Apply the file if its content has changed; keep the last good directives otherwise.

        The file is small, so its content is compared and not its times: two writes within one tick
        of the clock are then two writes.
        """
        if self._path is None:
            return
        try:
            content = self._path.read_bytes()
        except OSError as error:
            if not self._unreadable:
                _log.warning("directives cannot be read", path=str(self._path), error=str(error))
            self._unreadable = True
            return
        self._unreadable = False
        if content == self._seen:
            return
        self._seen = content
        try:
            self.current = Directives.model_validate_json(content)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()
            )
            _log.error("directives rejected, the last good ones stay", problems=problems)
            self._metrics.directives_read(applied=False)
            return
        self.hash = hashlib.sha256(content).hexdigest()[:16]
        self._metrics.directives_read(applied=True)
        for follower in self._followers:
            follower(self.current)
        _log.info("directives applied", directives_hash=self.hash)

    async def watch(self) -> None:
        """Poll for ever."""
        while True:
            try:
                self.poll()
            except Exception:  # noqa: BLE001 - the task's root: the next change must find somebody who looks
                _log.exception("directives could not be followed")
            await asyncio.sleep(POLL_S)
