"""The state of a rollout, as it lives in ``status``: all that a restart needs to go on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal, Self

from modelyard_operator.rollout.evidence import Decimal, Evidence
from modelyard_operator.rollout.judgement import Judgement
from modelyard_operator.rollout.status_part import StatusPart, Time
from modelyard_operator.spec import RolloutSpec


class RolloutState(StrEnum):
    """What the machine is waiting for."""

    INITIALIZING = "Initializing"
    """The first revision, before it has ever served."""
    IDLE = "Idle"
    """Stable is what the spec asks for."""
    PREPARING = "Preparing"
    """The candidate is written down; its first pod has no node yet."""
    WAITING_CAPACITY = "WaitingCapacity"
    """The scheduler finds no room for a pod of the candidate."""
    WARMING = "Warming"
    """The candidate's pods for the next weight are not all ready yet."""
    SHADOWING = "Shadowing"
    """The candidate answers copies of live requests, and none itself."""
    SHIFTING = "Shifting"
    """The weight is written down; the route does not show it yet."""
    ANALYZING = "Analyzing"
    """The weight is confirmed; the step's time runs, and evidence gathers."""
    PAUSED = "Paused"
    """Somebody, or something outside the rollout, has to say go."""
    PROMOTING = "Promoting"
    """The candidate has become stable; the primary route moves over."""
    PROBATION = "Probation"
    """The canary route goes; the previous revision stays warm, should traffic have to return."""
    ROLLING_BACK = "RollingBack"
    """Traffic returns before the pods that it leaves go."""
    ROLLED_BACK = "RolledBack"
    """Stable serves, and is not what the spec asks for: that was rejected."""
    UNAVAILABLE = "Unavailable"
    """The first revision did not become ready within its deadline."""


ACTIVE = frozenset(
    {
        RolloutState.PREPARING,
        RolloutState.WAITING_CAPACITY,
        RolloutState.WARMING,
        RolloutState.SHADOWING,
        RolloutState.SHIFTING,
        RolloutState.ANALYZING,
        RolloutState.PAUSED,
    }
)
"""States in which a candidate is on its way."""

PauseReason = Literal[
    "Spec", "Step", "Command", "Freeze", "Inconclusive", "NoTraffic", "AnalysisError",
    "Capacity", "Failover",
]  # fmt: skip


class PlannedStep(StatusPart):
    """One step as it stood when the rollout began; a later edit of the steps is for the next one."""

    weight: int
    bake_seconds: int
    max_seconds: int = 1800
    """Longest time that evidence is waited for, in seconds."""
    pause: Literal["Manual"] | None = None


class LastCommand(StatusPart):
    """The command seen last, so that a replay has no effect."""

    id: str
    verb: str
    revision: str
    result: str
    time: Time


class LastRollback(StatusPart):
    """Why a revision was rejected last."""

    revision: str
    reason: str
    message: str
    time: Time


class ShadowReport(StatusPart):
    """How the candidate's answers compare with stable's, over copies of live requests."""

    samples: int = 0
    agreement: Decimal | None = None
    """Share of answers that agree, from 0 to 1; None without a sample."""


class Rollout(StatusPart):
    """Everything that ``decide`` carries from one pass to the next."""

    state: RolloutState = RolloutState.INITIALIZING
    id: str | None = None
    """Names one rollout among those of its revision."""
    stable: str | None = None
    candidate: str | None = None
    previous: str | None = None
    """Stable until the promotion that is being finished; kept warm through its probation."""
    weight: int = 0
    """Percent that the candidate is meant to get; the route is asked for what it does get."""
    step: int = 0
    """Number of the current step, from 1; 0 outside rollouts."""
    plan: tuple[PlannedStep, ...] = ()
    state_since: Time | None = None
    next_step_time: Time | None = None
    started_at: Time | None = None
    deadline_time: Time | None = None
    step_deadline_time: Time | None = None
    """When the step ends without enough evidence; it began when its weight was first confirmed."""
    initial_replicas: int | None = None
    """Stable's replicas when the rollout began: what the candidate must be able to replace."""
    given_up: int = 0
    """Pods of stable that made room for pods of the candidate."""
    room_for: int = 0
    """Pods of the candidate that room was made for, or that needed none."""
    remaining: int | None = None
    """Pods that a revision which is left may keep while the one to return to finds no room."""
    paused_reason: PauseReason | None = None
    held: bool = False
    """The command ``pause`` holds the rollout, whatever state it is in."""
    forced: bool = False
    """The command ``promote-full`` skips the steps, and what would be waited for at the last."""
    pinned: str | None = None
    """Serves instead of the spec's revision while that one is rejected."""
    fallback: str | None = None
    """Stable before the present one; to where a broken SLO leads outside rollouts."""
    promoted: tuple[str, ...] = ()
    """Revisions that have passed every step, the last one last; they need not pass them again."""
    rejected: tuple[str, ...] = ()
    """Revisions that are not tried again unasked, the last one last."""
    last_rollback: LastRollback | None = None
    last_command: LastCommand | None = None
    analysis: Evidence | None = None
    """What was seen in the window that runs."""
    shadow: ShadowReport | None = None

    @property
    def current(self) -> PlannedStep:
        """The step that the rollout is at."""
        return self.plan[self.step - 1]

    @property
    def gave_all(self) -> bool:
        """Stable has no pods left: somebody asked for a rollout with a downtime."""
        return self.given_up > 0 and self.given_up >= (self.initial_replicas or 1)

    @property
    def down(self) -> bool:
        """Nothing serves for a while, because the only room is needed for what will."""
        return self.gave_all or self.remaining == 0

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> Self | None:
        """Read the rollout back; None leaves it to be rebuilt from the routes.

        That is so when status was never written, was wiped, or speaks of states that this version of the
        operator does not have.
        """
        rollout = status.get("rollout")
        if not rollout or rollout.get("state", RolloutState.INITIALIZING) not in set(RolloutState):
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
        # What is at its default goes without saying; a 0 where the default is None does not.
        return {
            key: value for key, value in dumped.items() if key == "state" or value != _DEFAULTS[key]
        }


_DEFAULTS: Final = MappingProxyType(Rollout().model_dump(mode="json", by_alias=True))


@dataclass(frozen=True)
class World:
    """What the machine sees of the cluster.

    Attributes:
        ready: Ready pods of each live revision.
        replicas: Pods that each live revision is meant to have, as its Deployment says.
        primary: Revision that the primary route names; None without a route.
        canary: Revision that the canary route names; None without one.
        canary_weight: Percent that the canary route gives; 0 without one.
        followed: The proxy has the routes as they are, as far as it says.
        selected: Revision that the Service for callers inside the cluster selects.
        splits: The route can divide traffic between two revisions.
        placed: Pods of each live revision that have a node.
        leaving: Pods on their way out: what they hold is not free yet.
        history: Every revision on record, newest first.
        judgement: What the evidence of the window that runs says; None while nothing is judged, so
            that time alone decides.
        shadow: What the comparison of copied requests says; None while nothing is compared.
        broken: Revisions of which no more evidence is needed, each with the grounds: it crashes, runs
            out of memory, cannot be loaded, or answers golden requests wrongly.
        unschedulable: Revisions with a pod that finds no room, each in the scheduler's words.
        signature_change: How the candidate's inputs or outputs differ from stable's, in a sentence.
        signature_unknown: Both have ready pods, and one of them has not said yet what it takes.
    """

    ready: Mapping[str, int] = field(default_factory=dict)
    replicas: Mapping[str, int] = field(default_factory=dict)
    primary: str | None = None
    canary: str | None = None
    canary_weight: int = 0
    followed: bool = True
    selected: str | None = None
    splits: bool = True
    placed: Mapping[str, int] = field(default_factory=dict)
    leaving: int = 0
    history: tuple[str, ...] = ()
    judgement: Judgement | None = None
    shadow: Judgement | None = None
    broken: Mapping[str, Judgement] = field(default_factory=dict)
    unschedulable: Mapping[str, str] = field(default_factory=dict)
    signature_change: str | None = None
    signature_unknown: bool = False

    def settled(self, revision: str | None) -> int:
        """Return how many pods of a revision have found their place."""
        name = revision or ""
        return max(self.placed.get(name, 0), self.ready.get(name, 0))

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
