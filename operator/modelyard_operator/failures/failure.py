"""One failure, and the view of a revision in which failures are looked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from modelyard_operator.devices import Devices
from modelyard_operator.errors import ModelyardOperatorError
from modelyard_operator.failures.redaction import redact
from modelyard_operator.spec import AcceleratorSpec

Manifest = Mapping[str, Any]

MESSAGE_LIMIT: Final = 1024
"""Longest message, hint and last word, in characters."""
CRASHES: Final = frozenset({"ContainerCrashed", "ProbeFailed"})
"""Reasons of containers that ended without a word of their own."""
CRASH_LOOP: Final = 2
"""Crashes that are a loop: the first may have been an accident."""


@dataclass(frozen=True)
class Failure:
    """One failure, as it goes into ``status.failure``.

    Attributes:
        reason: CamelCase; becomes the reason of Ready and Stalled.
        message: What happened.
        hint: What to do about it.
        retryable: Waiting may help, so that the object is not Stalled.
        revision: The revision that fails.
        pod: Name of the pod, where there is one.
        container: Name of the container, where there is one.
        exit_code: Exit code of the container, where it ran.
        termination_message: The container's last word, as it left it.
        count: How often the container has ended.
        last_time: When the kubelet or the scheduler reported it, RFC 3339.
    """

    reason: str
    message: str
    hint: str
    retryable: bool = False
    revision: str | None = None
    pod: str | None = None
    container: str | None = None
    exit_code: int | None = None
    termination_message: str | None = None
    count: int | None = None
    last_time: str | None = None

    @classmethod
    def of(cls, problem: ModelyardOperatorError) -> Self:
        """Describe a spec that leads to no revision."""
        failure = cls(problem.reason, str(problem), problem.hint, retryable=not problem.permanent)
        return failure.redacted()

    def redacted(self) -> Self:
        """Return the failure as it may be shown: short, and without what looks like a secret."""
        word = self.termination_message
        return replace(
            self,
            message=redact(self.message)[:MESSAGE_LIMIT],
            hint=redact(self.hint)[:MESSAGE_LIMIT],
            termination_message=redact(word)[:MESSAGE_LIMIT] if word else None,
        )

    @property
    def hard(self) -> bool:
        """Whether the revision itself is broken: no wait and no second pod would help it."""
        loops = self.reason in CRASHES and (self.count or 0) >= CRASH_LOOP
        return loops or not self.retryable

    def to_status(self) -> dict[str, Any]:
        """Return ``status.failure``."""
        fields = {
            "reason": self.reason,
            "message": self.message,
            "hint": self.hint,
            "revision": self.revision,
            "pod": self.pod,
            "container": self.container,
            "exitCode": self.exit_code,
            "terminationMessage": self.termination_message,
            "count": self.count,
            "lastTime": self.last_time,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class RevisionView:
    """All that is known of one revision's trouble.

    Attributes:
        revision: Its name.
        pods: Its pods that are not ready, newest first.
        workload: Its Deployment; empty while there is none.
        accelerator: What its pods ask for, to tell a missing device from other shortages.
        events: The kubelet's Events by uid of the pod, as far as they were looked up.
        devices: How many of its devices the cluster has; None when that is not known.
    """

    revision: str | None
    pods: tuple[Manifest, ...] = ()
    workload: Manifest = field(default_factory=dict)
    accelerator: AcceleratorSpec | None = None
    events: Mapping[str, tuple[Manifest, ...]] = field(default_factory=dict)
    devices: Devices | None = None

    def events_of(self, pod: Manifest) -> tuple[Manifest, ...]:
        """Return the kubelet's Events about a pod."""
        return self.events.get(pod["metadata"]["uid"], ())
