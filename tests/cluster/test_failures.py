"""Every failure that a user can cause: named within seconds, and what serves goes on serving."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from testkit.cluster_api import Manifest, condition, revision_of
from testkit.cluster_explained import check_explained
from testkit.cluster_lab import SLIM_IMAGE, Bench, Lab, Served
from testkit.cluster_traffic import Load

pytestmark = [pytest.mark.cluster, pytest.mark.together]

LIMIT_S: Final = 15.0
HOLD_S: Final = 12.0
"""Long enough for the container to fail once more: that is no news."""
WRONG_SECRET: Final = "wrong-credentials"  # noqa: S105 -- the name of a Secret


@dataclass(frozen=True)
class Case:
    """A bad edit and what must be said about it.

    Attributes:
        reason: Reason of Ready.
        edit: The bad edit, given the folder of the artifacts.
        says: Words of the message.
        stalled: No retry can help.
        container: The container whose last word is shown.
    """

    reason: str
    edit: Callable[[str], Manifest]
    says: tuple[str, ...]
    stalled: bool = True
    container: str | None = None
    spec: dict[str, Any] = field(default_factory=dict)


def _uri(folder: str, **more: Any) -> Callable[[str], Manifest]:
    return lambda prefix: {"model": {"uri": f"{prefix}/{folder}", **more}}


CASES: Final = {
    "scheme": Case(
        "UnsupportedURIScheme",
        lambda _: {
            "model": {
                "uri": "ftp://example.com/model",
                "endpointURL": None,
                "credentialsSecretRef": None,
            }
        },
        ("spec.model.uri", "'ftp'", "s3"),
    ),
    "missing": Case("ArtifactNotFound", _uri("nowhere"), ("nowhere",), container="model-fetch"),
    "digest": Case(
        "DigestMismatch",
        _uri("v2", digest=f"sha256:{'0' * 64}"),
        ("sha256:",),
        container="model-fetch",
    ),
    "credentials": Case(
        "AccessDenied",
        _uri("v2", credentialsSecretRef={"name": WRONG_SECRET}),
        ("v2",),
        container="model-fetch",
    ),
    "garbage": Case("InvalidArtifact", _uri("garbage"), ("model.onnx",), container="runtime"),
    "unknown": Case(
        "UnknownFormat",
        lambda prefix: {
            "model": {"uri": f"{prefix}/unknown", "format": "Auto"},
            "runtime": {"image": SLIM_IMAGE},
        },
        ("no file is a known model",),
        container="runtime",
    ),
    "memory": Case(
        "OutOfMemory",
        lambda prefix: {
            "model": {"uri": f"{prefix}/hungry"},
            "resources": {"limits": {"memory": "320Mi"}},
        },
        ("memory",),
        container="runtime",
    ),
    "image": Case(
        "ImagePullFailed",
        lambda _: {"runtime": {"image": "registry.invalid/team/server:1"}},
        ("registry.invalid/team/server:1",),
        stalled=False,
    ),
    "accelerator": Case(
        "InsufficientAccelerator",
        lambda _: {"accelerator": {"count": 3}},
        ("3 nvidia.com/gpu",),
        stalled=False,
    ),
    "product": Case(
        "InsufficientAccelerator",
        lambda _: {"accelerator": {"count": 1, "products": ["NVIDIA-H900"]}},
        ("1 nvidia.com/gpu", "NVIDIA-H900"),
        stalled=False,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_failure_is_named_and_what_serves_goes_on(lab: Lab, case: Case) -> None:
    with lab.bench(case.reason.lower()[:20]) as bench:
        _add_wrong_credentials(bench)
        served = bench.serve("fraud", **case.spec)
        stable = revision_of(served.until_ready(), "stable")
        (pod,) = served.pods()
        served.until_answered()
        with Load(served.route, threads=1) as load:
            edited = served.edit(**case.edit(lab.prefix))
            seen = served.until(_names(case.reason))
            noticed = datetime.now(UTC)
            time.sleep(HOLD_S)
            later = served.get()
        assert load.failed == []
        assert {sample.revision for sample in load.samples} == {stable}
        assert len(load.samples) > HOLD_S
        generation = edited["metadata"]["generation"]
        for one in (seen, later):
            _check_status(one, case, generation)
            assert revision_of(one, "stable") == stable
            check_explained(one, case.reason)
        _check_event(served, case, seen, noticed)
        assert [one["metadata"]["uid"] for one in served.pods(stable)] == [pod["metadata"]["uid"]]


def _names(reason: str) -> Callable[[Manifest], bool]:
    return lambda seen: bool(condition(seen, "Ready").get("reason") == reason)


def _check_status(seen: Manifest, case: Case, generation: int) -> None:
    ready, stalled = condition(seen, "Ready"), condition(seen, "Stalled")
    assert (ready["status"], ready["reason"]) == ("False", case.reason), ready
    assert ready["observedGeneration"] == generation
    assert condition(seen, "Available")["status"] == "True"
    for words in case.says:
        assert words in ready["message"], ready
    assert stalled["status"] == str(case.stalled), stalled
    if case.stalled:
        assert stalled["reason"] in {case.reason, "Rejected"}
    if stalled["reason"] == "Rejected":  # its pods are gone, and why is kept
        last = seen["status"]["rollout"]["lastRollback"]
        assert last["reason"] == case.reason
        assert last["revision"] in seen["status"]["rollout"]["rejected"]
        return
    failure = seen["status"]["failure"]
    assert failure["reason"] == case.reason
    assert failure["message"]
    assert failure["hint"]
    if case.container:
        assert failure["container"] == case.container
        assert failure["exitCode"] != 0
    if case.container and case.reason != "OutOfMemory":
        assert case.reason in failure["terminationMessage"]


def _check_event(served: Served, case: Case, seen: Manifest, noticed: datetime) -> None:
    event = served.until_event(case.reason, lacks="traffic returns")
    assert event["count"] == 1
    assert event["type"] == "Warning"
    reported = _reported(served, seen)
    said = datetime.fromisoformat(event["firstTimestamp"])
    for moment in (said, noticed):
        assert (moment - reported).total_seconds() <= LIMIT_S


def _reported(served: Served, seen: Manifest) -> datetime:
    """When the scheduler, the kubelet or the container first reported the failure."""
    failure = seen["status"].get("failure", {})
    if "pod" not in failure:  # refused at the edit, before there was one
        return datetime.fromisoformat(condition(seen, "Ready")["lastTransitionTime"])
    if "lastTime" in failure:
        return datetime.fromisoformat(failure["lastTime"])
    events = served.api.all("Event", served.namespace)
    times = [
        event["firstTimestamp"]
        for event in events
        if event["involvedObject"]["name"] == failure["pod"] and event["reason"] == "Failed"
    ]
    return datetime.fromisoformat(min(times))


def _add_wrong_credentials(bench: Bench) -> None:
    values = {"AWS_ACCESS_KEY_ID": "modelyard", "AWS_SECRET_ACCESS_KEY": "wrong"}
    body = {"metadata": {"name": WRONG_SECRET}, "stringData": {**values, "AWS_REGION": "us-east-1"}}
    bench.lab.api.create("Secret", bench.namespace, body)
