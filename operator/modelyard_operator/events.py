"""The Events of a change of status: sentences about transitions, never about figures that move."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from modelyard_operator.analysis.objectives import CONDITION as OBJECTIVES_MET
from modelyard_operator.analysis.verdicts import figures
from modelyard_operator.rollout.evidence import Evidence
from modelyard_operator.rollout.transitions import FULL

Status = Mapping[str, Any]
Event = tuple[str, str, str]
"""Type, reason and message."""

PAUSES: Final = MappingProxyType(
    {
        "Spec": "spec.rollout.paused is true",
        "Step": "the step waits for the command promote or resume",
        "Command": "the command pause was given; resume lifts it",
        "Freeze": "a freeze window is open; it goes on by itself when that ends",
        "Inconclusive": "too few requests were seen in the step's longest time",
        "NoTraffic": "neither revision saw a request in the step",
        "AnalysisError": "the source of the figures cannot be read",
        "Capacity": "there was no room for the candidate in the time that it may wait",
        "Failover": "no pod of stable is ready, so the candidate stands in for it",
    }
)
"""Why a rollout is paused, by ``status.rollout.pausedReason``."""
_BEGINNINGS: Final = frozenset({None, "Idle", "RolledBack", "Probation"})


def build_events(before: Status, after: Status) -> list[Event]:
    """Return the Events of a change of status, each as type, reason and message.

    Only transitions make Events, and no message counts, so that repeats fold into one.
    """
    was, is_ = _by_type(before), _by_type(after)
    ready = is_["Ready"]
    became_ready = ready["status"] == "True" and was.get("Ready", {}).get("status") != "True"
    return [
        *_failure_events(before, after),
        *_objective_events(was, is_),
        *_step_events(before, after),
        *_rollout_events(before, after),
        *_command_events(before, after),
        *([("Normal", "Ready", ready["message"])] if became_ready else []),
    ]


def _failure_events(before: Status, after: Status) -> list[Event]:
    events: list[Event] = []
    old, new = before.get("failure") or {}, after.get("failure") or {}
    if new and _failure_identity(old) != _failure_identity(new):
        where = f"{new['revision']}: " if "revision" in new else ""
        events.append(("Warning", new["reason"], f"{where}{new['message']} ({new['hint']})"))
    stalled = _by_type(after)["Stalled"]
    known = _by_type(before).get("Stalled", {}).get("reason") == stalled["reason"]
    if not new and stalled["status"] == "True" and not known:
        events.append(("Warning", stalled["reason"], stalled["message"]))
    return events


def _objective_events(was: Mapping[str, Status], is_: Mapping[str, Status]) -> list[Event]:
    old, new = was.get(OBJECTIVES_MET, {}), is_.get(OBJECTIVES_MET, {})
    if new.get("status") == "False" and old.get("status") != "False":
        return [("Warning", new["reason"], new["message"])]
    return []


def _failure_identity(failure: Status) -> tuple[Any, ...]:
    """A pod that is tried again may put the same failure in other words; a spec does not."""
    revision = failure.get("revision")
    return failure.get("reason"), revision, None if revision else failure.get("message")


def _step_events(before: Status, after: Status) -> list[Event]:
    """Say what a step was passed on, before the figures of the next one take their place."""
    old, new = before.get("rollout") or {}, after["rollout"]
    goes_on = new["state"] == "Promoting" or new.get("step", 0) > old.get("step", 0)
    if old.get("state") not in {"Analyzing", "Paused"} or not goes_on:
        return []
    seen = Evidence.model_validate(new.get("analysis") or {})
    if seen.step != old.get("step") or not seen.metrics:
        return []
    compares = old.get("weight", 0) < FULL
    said = "; ".join(figures(metric, compares=compares) for metric in seen.metrics)
    if not any(metric.stable.n + metric.candidate.n for metric in seen.metrics):
        said = "nobody asked either revision for anything"
    return [("Normal", "StepPassed", f"{old.get('weight', 0)} %: {said}")]


def _rollout_events(before: Status, after: Status) -> list[Event]:
    old, new = before.get("rollout") or {}, after["rollout"]
    if old.get("state") == new["state"] and old.get("step") == new.get("step"):
        return []
    candidate = (after.get("candidate") or {}).get("revision", "")
    stable = (after.get("stable") or {}).get("revision", "")
    weight, paused = new.get("weight", 0), new.get("pausedReason", "")
    prepared = f"{candidate} is being prepared beside {stable}"
    begins = old.get("state") in _BEGINNINGS and candidate
    texts: dict[str, Event | None] = {
        "Preparing": ("Normal", "RolloutStarted", prepared),
        "Warming": ("Normal", "RolloutStarted", prepared) if begins else None,
        "WaitingCapacity": ("Warning", "WaitingForCapacity", _waiting(after, candidate)),
        "Shadowing": (
            "Normal",
            "Shadowing",
            f"{candidate} answers copies of live requests, which are compared with {stable}'s",
        ),
        "Shifting": ("Normal", "Shifting", f"{weight} % of the requests move to {candidate}"),
        "Paused": (
            "Normal",
            "RolloutPaused",
            f"paused at {weight} % ({paused}): {PAUSES.get(paused, 'somebody has to say go')}",
        ),
        "Promoting": ("Normal", "Promoted", f"{stable} is stable now"),
        "RollingBack": _rolling_back(old, new, candidate, stable),
        "Unavailable": (
            "Warning",
            "Unavailable",
            f"no pod of {candidate} became ready within its deadline",
        ),
    }
    event = texts.get(new["state"])
    return [event] if event else []


def _waiting(after: Status, candidate: str) -> str:
    room = _by_type(after).get("CapacityAvailable", {})
    if room.get("status") == "False":
        return str(room["message"])
    return f"{candidate} waits for room"


def _rolling_back(old: Status, new: Status, candidate: str, stable: str) -> Event:
    last = new.get("lastRollback")
    if last and last != old.get("lastRollback"):
        home = new.get("previous") or stable
        text = f"{last['revision']}: {last['message']}; traffic returns to {home}"
        return ("Warning", last["reason"], text)
    return ("Normal", "RolloutDropped", f"another edit: traffic returns to {stable or candidate}")


def _command_events(before: Status, after: Status) -> list[Event]:
    old = (before.get("rollout") or {}).get("lastCommand") or {}
    new = after["rollout"].get("lastCommand") or {}
    if not new or old.get("id") == new["id"]:
        return []
    asked = f"{new['verb']}@{new['revision']}" if new["verb"] else new["id"]
    refused = str(new["result"]).startswith("Refused")
    kind = ("Warning", "CommandRefused") if refused else ("Normal", "CommandSeen")
    return [(*kind, f"{asked}: {new['result']}")]


def _by_type(status: Status) -> dict[str, Status]:
    return {condition["type"]: condition for condition in status.get("conditions") or ()}
