"""A ModelDeployment as types: what the commands look at, whatever version of the operator wrote it.

Every field has a default, unknown ones are ignored, and null is the same as absent: a status may be
older than this program, newer, or half written.

References:
    crds/modeldeployments.yaml, ``status``.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from modelyard_cli.errors import ApiError

Manifest = Mapping[str, Any]


class Part(BaseModel):
    """Base of every part: frozen, camelCase, lenient."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        coerce_numbers_to_str=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            return {key: value for key, value in data.items() if value is not None}
        return data


class Arm(Part):
    """One revision that is live: stable or candidate."""

    revision: str = ""
    version: str = ""
    resolved_uri: str = Field(default="", alias="resolvedURI")
    digest: str = ""
    replicas: int | None = None
    ready_replicas: int = 0
    weight: int = 0


class Step(Part):
    """One step of the rollout, as it was planned when it began."""

    weight: int = 0
    bake_seconds: int | None = None
    pause: str = ""


class Counts(Part):
    """Requests that a metric looked at, and those that count against the revision."""

    n: int = 0
    bad: int = 0

    @property
    def rate(self) -> float | None:
        """Share of bad requests; None without a request."""
        return self.bad / self.n if self.n else None


class Metric(Part):
    """One metric of both revisions, and what the figures say so far."""

    metric: str = ""
    stable: Counts = Counts()
    candidate: Counts = Counts()
    e_value: str = ""
    limit_e_value: str = ""
    candidate_value: str = ""
    stable_value: str = ""
    breaches: int = 0
    verdict: str = ""

    @property
    def queried(self) -> bool:
        """Whether it is a number that a query gave, and not requests that were counted."""
        return bool(self.candidate_value or self.stable_value)


class ComparedMetric(Part):
    """One metric of a variant beside stable's."""

    metric: str = ""
    stable: Counts = Counts()
    variant: Counts = Counts()
    e_value: str = ""


class Comparison(Part):
    """How a variant does beside stable."""

    stable: str = ""
    since: datetime | None = None
    metrics: tuple[ComparedMetric, ...] = ()


class Variant(Arm):
    """A model that gets a share of all requests, whatever a rollout does."""

    name: str = ""
    message: str = ""
    comparison: Comparison = Comparison()


class Analysis(Part):
    """The evidence of the current step."""

    window_start: datetime | None = None
    last_scrape: datetime | None = None
    errors: int = 0
    metrics: tuple[Metric, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, data: Any) -> Any:
        return {"metrics": data} if isinstance(data, list) else data


class Shadow(Part):
    """Copies of requests that the candidate answered, and how many answers were like stable's."""

    samples: int = 0
    agreement: str = ""


class LastRollback(Part):
    """The last revision that was taken back."""

    revision: str = ""
    reason: str = ""
    message: str = ""
    time: datetime | None = None


class LastCommand(Part):
    """The command that the operator saw last, and what became of it."""

    id: str = ""
    verb: str = ""
    revision: str = ""
    result: str = ""
    time: datetime | None = None


class Rollout(Part):
    """``status.rollout``."""

    id: str = ""
    state: str = ""
    state_since: datetime | None = None
    step: int = 0
    plan: tuple[Step, ...] = ()
    weight: int = 0
    previous: str = ""
    started_at: datetime | None = None
    next_step_time: datetime | None = None
    step_deadline_time: datetime | None = None
    deadline_time: datetime | None = None
    paused_reason: str = ""
    held: bool = False
    analysis: Analysis = Analysis()
    shadow: Shadow | None = None
    promoted: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    pinned: str = ""
    fallback: str = ""
    last_rollback: LastRollback | None = None
    last_command: LastCommand | None = None


class Failure(Part):
    """``status.failure``: why a revision does not serve."""

    reason: str = ""
    message: str = ""
    hint: str = ""
    revision: str = ""
    pod: str = ""
    container: str = ""
    exit_code: int | None = None
    termination_message: str = ""
    count: int | None = None
    last_time: datetime | None = None


class Condition(Part):
    """A metav1.Condition."""

    type: str = ""
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: datetime | None = None


class Address(Part):
    """Where requests go."""

    type: str = ""
    url: str = ""


class Traffic(Part):
    """How requests are routed."""

    dialect: str = ""


class Status(Part):
    """``status`` of a ModelDeployment."""

    observed_generation: int = 0
    url: str = ""
    addresses: tuple[Address, ...] = ()
    replicas: int = 0
    ready_replicas: int = 0
    stable: Arm | None = None
    candidate: Arm | None = None
    variants: tuple[Variant, ...] = ()
    rollout: Rollout = Rollout()
    traffic: Traffic = Traffic()
    failure: Failure | None = None
    conditions: tuple[Condition, ...] = ()


class View(Part):
    """One ModelDeployment.

    Attributes:
        name: ``metadata.name``.
        namespace: ``metadata.namespace``.
        uid: ``metadata.uid``.
        generation: Number of the spec's last edit.
        deleting: Whether it is on its way out.
        spec: As it stands in the API server.
        status: As the operator wrote it.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    deleting: bool
    spec: dict[str, Any]
    status: Status

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Read a ModelDeployment.

        Args:
            manifest: As the API server gives it.

        Raises:
            ApiError: Its status has another shape than any version of the operator writes.
        """
        metadata = manifest.get("metadata") or {}
        name = metadata.get("name", "")
        try:
            status = Status.model_validate(manifest.get("status") or {})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ApiError(
                f"{name}: status.{where} cannot be read: {first['msg']}",
                hint="this command may be older than the operator; update it",
            ) from error
        return cls(
            name=name,
            namespace=metadata.get("namespace", ""),
            uid=metadata.get("uid", ""),
            generation=metadata.get("generation", 0),
            deleting=bool(metadata.get("deletionTimestamp")),
            spec=dict(manifest.get("spec") or {}),
            status=status,
        )

    @property
    def rollout(self) -> Rollout:
        """Where the rollout is."""
        return self.status.rollout

    @property
    def stable(self) -> str:
        """Name of the stable revision; empty before the first one serves."""
        return self.status.stable.revision if self.status.stable else ""

    @property
    def candidate(self) -> str:
        """Name of the candidate; empty outside rollouts."""
        return self.status.candidate.revision if self.status.candidate else ""

    @property
    def stale(self) -> bool:
        """Whether the operator has not looked at the last edit yet."""
        return self.status.observed_generation < self.generation

    @property
    def ready(self) -> bool:
        """Whether what the spec asks for now serves."""
        return not self.stale and self.condition("Ready").status == "True"

    @property
    def model_name(self) -> str:
        """The name that requests carry."""
        named = (self.spec.get("model") or {}).get("name")
        return str(named or self.name)

    def condition(self, type_: str) -> Condition:
        """Return a condition; one that is Unknown when status has none of the type."""
        found = (one for one in self.status.conditions if one.type == type_)
        return next(found, Condition(type=type_))

    def spec_at(self, *path: str) -> Any:
        """Return a field of the spec; None where it is absent."""
        value: Any = self.spec
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value
