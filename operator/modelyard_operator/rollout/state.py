"""The state of a rollout, as it lives in ``status``: all that a restart needs to go on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self

from modelyard_operator.rollout.status_part import StatusPart, Time
from modelyard_operator.spec import RolloutSpec


class RolloutState(StrEnum):
    """What the machine is waiting for."""

    INITIALIZING = "Initializing"
    """The first revision, before it has ever served."""
    IDLE = "Idle"
    """Stable is what the spec asks for."""
    WARMING = "Warming"
    """The candidate's pods for the next weight are not all ready yet."""
    SHIFTING = "Shifting"
    """The weight is written down; the route does not show it yet."""
    BAKING = "Baking"
    """The weight is confirmed; the step's time runs."""
    PAUSED = "Paused"
    """Somebody has to say go."""
    PROMOTING = "Promoting"
    """The candidate has become stable; the primary route moves over."""
    RETIRING = "Retiring"
    """The primary route is confirmed; the canary route goes, then the previous revision."""
    DRAINING = "Draining"
    """The candidate is not wanted any more; traffic returns to stable before its pods go."""


ACTIVE = frozenset(
    {
        RolloutState.WARMING,
        RolloutState.SHIFTING,
        RolloutState.BAKING,
        RolloutState.PAUSED,
    }
)
"""States in which a candidate is on its way."""


class PlannedStep(StatusPart):
    """One step as it stood when the rollout began; a later edit of the steps is for the next one."""

    weight: int
    bake_seconds: int
    pause: Literal["Manual"] | None = None


class LastCommand(StatusPart):
    """The command seen last, so that a replay has no effect."""

    id: str
    verb: str
    revision: str
    result: str
    time: Time


class Rollout(StatusPart):
    """Everything that ``decide`` carries from one pass to the next."""

    state: RolloutState = RolloutState.INITIALIZING
    stable: str | None = None
    candidate: str | None = None
    previous: str | None = None
    """The revision that was stable until the promotion that is being finished."""
    weight: int = 0
    """Percent that the candidate is meant to get; the route is asked for what it does get."""
    step: int = 0
    """Number of the current step, from 1; 0 outside rollouts."""
    plan: tuple[PlannedStep, ...] = ()
    state_since: Time | None = None
    next_step_time: Time | None = None
    started_at: Time | None = None
    deadline_time: Time | None = None
    initial_replicas: int | None = None
    """Stable's replicas when the rollout began: what the candidate must be able to replace."""
    paused_reason: Literal["Spec", "Step", "Command"] | None = None
    held: bool = False
    """The command ``pause`` holds the rollout, whatever state it is in."""
    last_command: LastCommand | None = None

    @property
    def current(self) -> PlannedStep:
        """The step that the rollout is at."""
        return self.plan[self.step - 1]

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> Self | None:
        """Read the rollout back; None when status was never written, or was wiped."""
        rollout = status.get("rollout")
        if not rollout:
            return None
        return cls.model_validate(
            {
                **rollout,
                "stable": (status.get("stable") or {}).get("revision"),
                "candidate": (status.get("candidate") or {}).get("revision"),
            }
        )

    def to_status(self) -> dict[str, Any]:
        """Return ``status.rollout``; stable and candidate have their own place."""
        dumped: dict[str, Any] = self.model_dump(
            mode="json",
            by_alias=True,
            exclude={"stable", "candidate"},
            exclude_none=True,
        )
        return {key: value for key, value in dumped.items() if value not in ([], False)}


@dataclass(frozen=True)
class World:
    """What the machine sees of the cluster.

    Attributes:
        ready: Ready pods of each live revision.
        replicas: Pods that each live revision is meant to have, as its Deployment says.
        primary: Revision that the primary route names; None without a route.
        canary: Revision that the canary route names; None without one.
        canary_weight: Percent that the canary route gives.
        selected: Revision that the Service for callers inside the cluster selects.
        splits: The route can divide traffic between two revisions.
    """

    ready: Mapping[str, int] = field(default_factory=dict)
    replicas: Mapping[str, int] = field(default_factory=dict)
    primary: str | None = None
    canary: str | None = None
    canary_weight: int = 0
    selected: str | None = None
    splits: bool = True

    @property
    def weights(self) -> dict[str, int]:
        """Percent of the traffic that the routes give to each revision; empty without a route."""
        if self.primary is None:
            return {}
        if self.canary is None or self.canary == self.primary:
            return {self.primary: 100}
        weights = {self.primary: 100 - self.canary_weight, self.canary: self.canary_weight}
        return {revision: weight for revision, weight in weights.items() if weight}


@dataclass(frozen=True)
class Ask:
    """What the user wants of the rollout now.

    Attributes:
        target: Revision that the spec leads to.
        replicas: Pods that stable should have: ``spec.replicas``, or the autoscaler's floor.
        spec: ``spec.rollout``.
        suspended: No pods, no routes.
    """

    target: str
    replicas: int
    spec: RolloutSpec
    suspended: bool = False
