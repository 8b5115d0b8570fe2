"""What ``explain`` answers: why, in one paragraph, and what to run next."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelyard_cli.view import View
from modelyard_cli.words import Caller


@dataclass(frozen=True)
class NextStep:
    """A command to run next.

    Attributes:
        command: Ready to be pasted; words in capitals are to be filled in.
        why: What it is for.
    """

    command: str
    why: str


@dataclass(frozen=True)
class Explanation:
    """Where a ModelDeployment stands, for somebody who has not read the manual.

    Attributes:
        reason: CamelCase word, as in status.
        text: One paragraph: cause, what is affected, what happens by itself.
        steps: What to run next, the most useful first.
    """

    reason: str
    text: str
    steps: tuple[NextStep, ...] = ()

    def to_document(self, view: View) -> dict[str, Any]:
        """Return the same for machines."""
        return {
            "name": view.name,
            "namespace": view.namespace,
            "ready": view.ready,
            "reason": self.reason,
            "explanation": self.text,
            "next": [{"command": step.command, "why": step.why} for step in self.steps],
        }


@dataclass(frozen=True)
class Seen:
    """What an explanation is made from.

    Attributes:
        view: The ModelDeployment.
        caller: How this program was called.
        now: Current time, in UTC.
    """

    view: View
    caller: Caller
    now: datetime

    def own(self, verb: str, rest: str = "") -> str:
        """Return a command of this program about the ModelDeployment."""
        return self.caller.own(verb, self.view.name, rest)

    def logs(self, revision: str, rest: str = "") -> NextStep:
        """Propose to read the log of a revision."""
        words = f"--revision {revision} {rest}".strip() if revision else rest
        return NextStep(self.own("logs", words), "shows what its pods say")

    def watch(self) -> NextStep:
        """Propose to look on."""
        return NextStep(self.own("status", "--watch"), "follows it live")

    def routes(self) -> NextStep:
        """Propose to look at the routes, and at what their proxy says of them."""
        kind = "httproute" if self.view.status.traffic.dialect == "Gateway" else "ingress"
        selector = f"modelyard.dev/model-deployment={self.view.name}"
        return NextStep(self.caller.kubectl(f"describe {kind} -l {selector}"), "shows the routes")

    def step(self, verb: str, why: str, rest: str = "") -> NextStep:
        """Propose a command of this program about the ModelDeployment."""
        return NextStep(self.own(verb, rest), why)
