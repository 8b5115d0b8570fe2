"""What the kubelet reports of a pod: containers that wait, and Events about mounts and probes."""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from modelyard_operator.failures.failure import Failure, RevisionView
from modelyard_operator.pods import RUNTIME, container_of, container_statuses
from modelyard_operator.runtime_contract import LIVE_PATH

Manifest = Mapping[str, Any]

WAITING: Final[Mapping[str, tuple[str, str, bool]]] = MappingProxyType(
    {
        "ErrImagePull": ("ImagePullFailed", "check spec.runtime.image and imagePullSecrets", True),
        "ImagePullBackOff": (
            "ImagePullFailed",
            "check spec.runtime.image and imagePullSecrets",
            True,
        ),
        "ErrImageNeverPull": ("ImagePullFailed", "load the image onto the node", True),
        "InvalidImageName": ("InvalidImageName", "correct spec.runtime.image", False),
        "CreateContainerConfigError": (
            "ContainerConfigError",
            "check the Secrets and ConfigMaps that the spec names",
            True,
        ),
        "CreateContainerError": ("ContainerCreateError", "see the message of the kubelet", True),
        "RunContainerError": (
            "ContainerCreateError",
            "check spec.runtime.args and the image",
            True,
        ),
    }
)
"""Waiting reasons of the kubelet: our reason, the hint, and whether waiting may help."""

_NOT_FOUND: Final = re.compile(r"(secret|configmap) \"([^\"]+)\" not found", re.IGNORECASE)
_KINDS: Final = MappingProxyType({"secret": "Secret", "configmap": "ConfigMap"})
_EVENTS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "FailedMount": (
            "VolumeMountFailed",
            "see what the volume needs: its claim, Secret or server",
        ),
        "FailedAttachVolume": ("VolumeMountFailed", "see where else the volume is attached"),
        "FailedCreatePodSandBox": (
            "PodSandboxFailed",
            "see the node's container runtime and network, and spec.scheduling.runtimeClassName",
        ),
    }
)
"""Reasons of the kubelet's Events about pods whose containers do not start: ours, and the hint."""
_PROBE_FAILED: Final = re.compile(r"^(Startup|Readiness|Liveness) probe failed: ?(.*)", re.DOTALL)
_KILLED: Final = re.compile(r"^Container (\S+) failed (startup|liveness) probe")
_LOADING: Final = "statuscode: 503"
"""What the runtime answers to the readiness probe for as long as it loads."""
_PATIENCE: Final = 30
"""Failures of a probe that nobody answers: a server may take a while to listen, but not so long."""


def container_waits(view: RevisionView, pod: Manifest) -> Failure | None:
    """Find a container that the kubelet cannot start."""
    for status in container_statuses(pod):
        waiting = status.get("state", {}).get("waiting") or {}
        if (known := WAITING.get(waiting.get("reason", ""))) is None:
            continue
        reason, hint, retryable = known
        said = waiting.get("message", "").strip()
        if reason == "ContainerConfigError" and (missing := _NOT_FOUND.search(said)):
            kind, name = _KINDS[missing.group(1).lower()], missing.group(2)
            reason, hint = f"{kind}NotFound", f"create the {kind} {name}, or correct its name"
        # Back-off alternates with the error itself, in other words: the image names the case.
        elif reason == "ImagePullFailed":
            said = f"{status['image']}: cannot be pulled"
        return Failure(
            reason=reason,
            message=f"container {status['name']}: {said}",
            hint=hint,
            retryable=retryable,
            revision=view.revision,
            pod=pod["metadata"]["name"],
            container=status["name"],
        )
    return None


def mount_fails(view: RevisionView, pod: Manifest) -> Failure | None:
    """Find why no container of a pod starts: a volume that does not mount, a sandbox that fails."""
    if any("waiting" not in status.get("state", {}) for status in container_statuses(pod)):
        return None  # it got past that
    for event in sorted(view.events_of(pod), key=_last_time, reverse=True):
        if (known := _EVENTS.get(event.get("reason", ""))) is None:
            continue
        reason, hint = known
        said = event.get("message", "").strip()
        if missing := _NOT_FOUND.search(said):
            kind, name = _KINDS[missing.group(1).lower()], missing.group(2)
            reason, hint = f"{kind}NotFound", f"create the {kind} {name}, or correct its name"
        return Failure(
            reason=reason,
            message=said,
            hint=hint,
            retryable=True,
            revision=view.revision,
            pod=pod["metadata"]["name"],
            last_time=_first_time(event),
        )
    return None


def probe_fails(view: RevisionView, pod: Manifest) -> Failure | None:
    """Find a probe that cannot succeed; one that waits for the model to load is no failure."""
    status = next((s for s in container_statuses(pod) if s["name"] == RUNTIME), None)
    if status is None or "running" not in status.get("state", {}):
        return None
    for event in sorted(view.events_of(pod), key=_last_time, reverse=True):
        said = _PROBE_FAILED.match(event.get("message", ""))
        if event.get("reason") != "Unhealthy" or said is None:
            continue
        probe, detail = said.groups()
        starting, answered = probe == "Startup", "statuscode" in detail
        over = starting and status.get("started")
        if over or _LOADING in detail or (not answered and _count(event) < _PATIENCE):
            continue
        if starting and answered and _is_stranger(view):
            return replace(
                port_in_use(f"it answers the startup probe: {detail}"),
                revision=view.revision,
                pod=pod["metadata"]["name"],
                container=RUNTIME,
                last_time=_first_time(event),
            )
        return Failure(
            reason="ProbeFailed",
            message=f"the {probe.lower()} probe fails: {detail}",
            hint="remove the probe from spec.podTemplate, or let it ask what the server answers",
            retryable=not answered,
            revision=view.revision,
            pod=pod["metadata"]["name"],
            container=RUNTIME,
            last_time=_first_time(event),
        )
    return None


def probe_that_killed(view: RevisionView, pod: Manifest, container: str) -> Failure | None:
    """Find the probe for which the kubelet killed a container."""
    events = sorted(view.events_of(pod), key=_last_time, reverse=True)
    for event in events:
        killed = _KILLED.match(event.get("message", ""))
        if event.get("reason") != "Killing" or killed is None or killed.group(1) != container:
            continue
        probe = killed.group(2)
        failed = (_PROBE_FAILED.match(one.get("message", "")) for one in events)
        details = [said.group(2) for said in failed if said and said.group(1).lower() == probe]
        return Failure(
            reason="ProbeFailed",
            message=f"container {container} was killed because its {probe} probe failed"
            + (f": {details[0]}" if details else ""),
            hint="see the container's log for what kept it from answering",
            retryable=True,
        )
    return None


def port_in_use(evidence: str) -> Failure:
    """Describe a pod whose server cannot listen."""
    return Failure(
        "PortInUse",
        f"another container of the pod holds a port of the model server: {evidence}",
        "let the containers of spec.podTemplate listen elsewhere than on 8080, 8081 and 8082",
    )


def _is_stranger(view: RevisionView) -> bool:
    """Tell whether somebody else answers our own probe; the server knows the path of it."""
    pod = view.workload.get("spec", {}).get("template", {}).get("spec", {})
    probe = container_of(view.workload, RUNTIME).get("startupProbe", {})
    ours = probe.get("httpGet", {}).get("path") == LIVE_PATH
    return ours and len(pod.get("containers", ())) > 1


def _count(event: Manifest) -> int:
    """How often: Events of the newer API count in a series."""
    return int((event.get("series") or {}).get("count") or event.get("count") or 1)


def _last_time(event: Manifest) -> str:
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or ""
    )


def _first_time(event: Manifest) -> str | None:
    return event.get("firstTimestamp") or event.get("eventTime")
