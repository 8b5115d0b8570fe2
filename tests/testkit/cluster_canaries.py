"""Bad versions of a model, each rolled out under a steady load, and what became of it."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from testkit.beside import Beside
from testkit.cluster_api import Manifest, revision_of, state_of
from testkit.cluster_lab import Bench, Served
from testkit.cluster_models import merge
from testkit.cluster_traffic import OK, ROW, Load, Sample, infer_body, requests_counted

WEIGHT: Final = 10
"""Percent of the requests that a canary gets at its only step but the last."""
STEPS: Final = {"steps": [{"weight": WEIGHT}, {"weight": 100}], "bakeSeconds": 120}
RATE: Final = 20
"""Requests a second; a quarter of that where no user is to meet the bad version."""
CLIENTS: Final = 8
GONE_S: Final = 60.0
"""From the confirmed weight until no request reaches the canary any more, at this rate."""
LONGEST_S: Final = 300.0
HANDLER: Final = "handler"
EASY: Final = infer_body()
HARD: Final = infer_body(data=[-ROW[0], *ROW[1:]])
"""What some bad versions cannot answer; the good one does."""
BODIES: Final = (EASY, EASY, EASY, EASY, HARD)

UNLUCKY: Final = """
def preprocess(request, ctx):
    if request.inputs["x"].min() < 0:
        raise RuntimeError("no negative numbers")
    return request.inputs
"""
CRASHING: Final = """
import os

os._exit(17)


def preprocess(request, ctx):
    return request.inputs
"""


@dataclass(frozen=True)
class BadVersion:
    """A version that must not stay.

    Attributes:
        reason: Why it is rejected.
        says: Words of the grounds.
        model: Folder of its artifact.
        handler: Its handler; empty for none.
        answers: Its pods turn ready.
        serves: It gets its share of the requests until it is found out.
        stable_handler: The handler of the version before it.
        spec: Other fields of the edit.
    """

    reason: str
    says: tuple[str, ...]
    model: str = "v2"
    handler: str = ""
    answers: bool = False
    serves: bool = False
    stable_handler: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Meter(Beside):
    """Watches what the pods of candidates have answered, themselves: the most that each revision told.

    Attributes:
        served: The ModelDeployment.
        stable: The revision that is no candidate.
        asked: Requests of users, by revision.
    """

    served: Served
    stable: str
    asked: dict[str, float] = field(default_factory=dict)

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            for pod in self.served.all("Pod"):
                revision = pod["metadata"]["labels"]["modelyard.dev/revision"]
                address = pod["status"].get("podIP")
                if revision == self.stable or address is None:
                    continue
                try:
                    asked = requests_counted(address)
                except httpx.HTTPError:
                    continue  # it is starting, or ending
                self.asked[revision] = max(asked, self.asked.get(revision, 0.0))


@dataclass(frozen=True)
class Outcome:
    """What became of a bad version.

    Attributes:
        stable: The version before it.
        candidate: The bad one.
        rejected: The object when it was found out.
        end: The object when all is over.
        samples: The requests of its users.
        asked: Requests that its own pods have counted; None when none of them ever told.
        confirmed_at: When status first told of a confirmed weight; when the edit was made for a
            version that is to get none.
        over_at: When the last of its pods was gone.
    """

    stable: str
    candidate: str
    rejected: Manifest
    end: Manifest
    samples: list[Sample]
    asked: float | None
    confirmed_at: float
    over_at: float

    @property
    def rollback(self) -> Manifest:
        found: Manifest = self.end["status"]["rollout"]["lastRollback"]
        return found

    @property
    def convicting(self) -> Manifest:
        """The evidence of the metric that failed first, as status tells it."""
        metrics = self.rejected["status"]["rollout"]["analysis"]["metrics"]
        found: Manifest = next(one for one in metrics if one["verdict"] == "Fail")
        return found

    @property
    def gone_s(self) -> float:
        """Seconds from the confirmed weight until the last request that the bad version got."""
        return self._last - self.confirmed_at

    @property
    def until_gone(self) -> int:
        """Requests to both versions in that time: how fast it was, also where machines are slow."""
        return sum(self.confirmed_at <= sample.at <= self._last for sample in self.samples)

    @property
    def rate(self) -> float:
        """Requests a second that the clients have really sent."""
        return len(self.samples) / (self.samples[-1].at - self.samples[0].at)

    @property
    def _last(self) -> float:
        return max(sample.at for sample in self.samples if sample.revision == self.candidate)

    @property
    def finally_reached(self) -> set[str]:
        """Revisions that answer when all is over."""
        return {sample.revision for sample in self.samples if sample.at >= self.over_at}

    @property
    def failed(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.status != OK]


def sleeping(seconds: float) -> str:
    """Return a handler that takes its time, in which others are served."""
    return f"""
import asyncio


async def preprocess(request, ctx):
    await asyncio.sleep({seconds})
    return request.inputs
"""


def serve_good(bench: Bench, name: str, bad: BadVersion, **spec: Any) -> Served:
    """Create a good version, which a bad one is to follow; does not wait."""
    handlers = {"stable.py": bad.stable_handler, "candidate.py": bad.handler}
    data = {key: text for key, text in handlers.items() if text}
    if data:
        body = {"metadata": {"name": f"{name}-{HANDLER}"}, "data": data}
        bench.lab.api.create("ConfigMap", bench.namespace, body)
    runtime = _handled(name, "stable.py") if bad.stable_handler else {}
    return bench.serve(name, **runtime, **spec)


def edit_to(served: Served, bad: BadVersion) -> None:
    """Ask for the bad version."""
    prefix = served.bench.lab.prefix
    model = {"uri": f"{prefix}/{bad.model}", "version": bad.model}
    handler = _handled(served.name, "candidate.py") if bad.handler else {}
    served.edit(**merge({"model": model} | handler, bad.spec))


def roll_out(served: Served, bad: BadVersion, *, limit_s: float = LONGEST_S) -> Outcome:
    """Edit to the bad version under load, and follow it until it is gone.

    Args:
        served: The good version, just created.
        bad: What follows it.
        limit_s: How long the version may be there until it is rejected, from its confirmed weight or
            from the edit.

    Raises:
        AssertionError: It is not rejected in time.
    """
    stable = revision_of(served.until_ready(), "stable")
    served.until_answered()
    clients = CLIENTS if bad.serves else CLIENTS // 4
    with (
        Load(served.route, threads=clients, pause_s=CLIENTS / RATE, bodies=BODIES) as load,
        Meter(served, stable) as meter,
    ):
        edit_to(served, bad)
        if bad.serves:
            served.until(_weighs)
        confirmed_at = time.monotonic()
        rejected = served.until(_has_rejected, limit_s)
        end = served.until(lambda seen: state_of(seen) == "RolledBack")
        candidate = rejected["status"]["rollout"]["lastRollback"]["revision"]
        for pod in served.all("Pod"):
            if pod["metadata"]["labels"]["modelyard.dev/revision"] == candidate:
                served.api.until_gone("Pod", served.namespace, pod["metadata"]["name"])
        over_at = time.monotonic()
        load.until_answered_by(stable)
    return Outcome(
        stable=stable,
        candidate=candidate,
        rejected=rejected,
        end=end,
        samples=load.samples,
        asked=meter.asked.get(candidate),
        confirmed_at=confirmed_at,
        over_at=over_at,
    )


def golden(expected: float) -> str:
    """Return a file with one golden request, and what every output of it should be."""
    tensor = {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [expected, expected]}
    pair = {"request": json.loads(EASY), "response": {"outputs": [tensor]}}
    return json.dumps([pair])


def _handled(name: str, key: str) -> Manifest:
    return {"runtime": {"handlerRef": {"configMapName": f"{name}-{HANDLER}", "key": key}}}


def _weighs(seen: Manifest) -> bool:
    return state_of(seen) == "Analyzing" and seen["status"]["rollout"]["weight"] == WEIGHT


def _has_rejected(seen: Manifest) -> bool:
    return "lastRollback" in seen["status"]["rollout"]
