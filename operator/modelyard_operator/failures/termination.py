"""Containers that ended: what their last word, their exit code and their log say."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from modelyard_operator.failures.failure import Failure, RevisionView
from modelyard_operator.failures.kubelet import port_in_use, probe_that_killed
from modelyard_operator.pods import FETCH, container_of, container_statuses

Manifest = Mapping[str, Any]

_PORT_IN_USE: Final = re.compile(r"address already in use|EADDRINUSE|Errno 98", re.IGNORECASE)


def container_failed(view: RevisionView, pod: Manifest) -> Failure | None:
    """Find a container that ended with an error, and has not been up since."""
    for status in container_statuses(pod):
        terminated = _last_termination(status)
        if terminated is None or terminated.get("exitCode") == 0:
            continue
        word = (terminated.get("message") or "").strip()
        return replace(
            _explain(view, pod, terminated, status["name"]),
            revision=view.revision,
            pod=pod["metadata"]["name"],
            container=status["name"],
            exit_code=terminated.get("exitCode"),
            termination_message=word or None,
            count=status.get("restartCount", 0)
            + (1 if status.get("state", {}).get("terminated") else 0),
            last_time=terminated.get("finishedAt"),
        )
    return None


def has_no_word(status: Manifest) -> bool:
    """Tell whether a container ended with an error and nobody but the kubelet may know why."""
    terminated = _last_termination(status)
    return (
        terminated is not None
        and terminated.get("exitCode") != 0
        and terminated.get("reason") != "OOMKilled"
        and "reason" not in parse_termination_message(terminated.get("message"))
    )


def parse_termination_message(message: str | None) -> dict[str, Any]:
    """Read a termination message of the contract; empty when it is something else."""
    try:
        said = json.loads(message or "")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _explain(view: RevisionView, pod: Manifest, terminated: Manifest, container: str) -> Failure:
    if terminated.get("reason") == "OOMKilled":
        return _killed_for_memory(view, container)
    said = parse_termination_message(terminated.get("message"))
    if "reason" in said:
        return Failure(
            reason=str(said["reason"]),
            message=str(said.get("message", "")),
            hint=str(said.get("hint", "")),
            retryable=bool(said.get("retryable", False)),
        )
    if (probe := probe_that_killed(view, pod, container)) is not None:
        return probe
    if _PORT_IN_USE.search(terminated.get("message") or ""):
        return port_in_use(f"container {container} could not listen")
    code = terminated.get("exitCode")
    return Failure(
        "ContainerCrashed",
        f"container {container} ended with exit code {code}",
        "see terminationMessage",
        retryable=True,
    )


def _killed_for_memory(view: RevisionView, container: str) -> Failure:
    """The download and the model need memory for different things, so each has its own reason."""
    limits = container_of(view.workload, container).get("resources", {}).get("limits", {})
    limit = f" (limit {limits['memory']})" if "memory" in limits else ""
    hint = "raise spec.resources.limits.memory"
    if container == FETCH:
        return Failure("DownloadOutOfMemory", f"the download was killed for memory{limit}", hint)
    return Failure("OutOfMemory", f"container {container} was killed for memory{limit}", hint)


def _last_termination(status: Manifest) -> Manifest | None:
    now: Manifest | None = status.get("state", {}).get("terminated")
    before: Manifest | None = status.get("lastState", {}).get("terminated")
    return now or before
