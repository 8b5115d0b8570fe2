"""Who is led to which revision by a header or a cookie, and stays with it, behind each proxy."""

import time
from collections import Counter
from dataclasses import replace
from http.cookies import SimpleCookie
from typing import Any, Final

import pytest

from testkit.cluster_api import Manifest, revision_of, state_of
from testkit.cluster_lab import Lab, Served
from testkit.cluster_proxies import PROFILES, Profile, ask_many, likely
from testkit.cluster_traffic import OK, Load, Route
from testkit.proofs import proves

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

FIRST: Final = 30
SECOND: Final = 60
REQUESTS: Final = 300
PINNED: Final = 40
HEADER: Final = {"X-Canary": "always"}
REACHES_S: Final = 60.0
"""Until an edit is in the proxy, and in the pods: the kubelet is told, and they look once a second."""
ROLLOUT: Final[Any] = {
    "steps": [
        {"weight": FIRST, "pause": "Manual"},
        {"weight": SECOND, "pause": "Manual"},
        {"weight": 100},
    ],
    "match": [{"header": {"name": "X-Canary", "value": "always"}}],
    "stickiness": {},
}
TESTERS: Final[Any] = {
    "match": [{"cookie": {"name": "tester", "value": "always"}}],
    "stickiness": None,
}


@proves("rollout.match[].cookie", "rollout.match[].header", "rollout.stickiness")
@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_clients_stay_with_a_revision_and_testers_reach_theirs(lab: Lab, profile: Profile) -> None:
    with profile.bench(lab, "pinning") as bench:
        served = profile.serve(bench, "fraud", rollout=ROLLOUT)
        served.until_answered()
        stable = revision_of(served.edit_to(2), "stable")
        candidate = _until_held(served, FIRST)
        _until(lambda: set(_cookies(served.route)) == {stable, candidate})
        of_stable, of_candidate = _clients(served.route, stable, candidate)
        assert ask_many(served.route, REQUESTS)[candidate] in likely(REQUESTS, FIRST)

        served.command(f"resume@{candidate}#1")
        _until_held(served, SECOND)
        for client, revision in ((of_stable, stable), (of_candidate, candidate)):
            assert ask_many(client, PINNED) == {revision: PINNED}
            assert "set-cookie" not in client.ask().headers
        both = replace(of_stable, headers={**of_stable.headers, **HEADER})
        assert ask_many(both, PINNED) == {candidate: PINNED}, "a pin beats the cookie"
        _survives_the_loss_of_the_candidate(served, of_candidate, stable, candidate)

        served.edit(rollout=TESTERS)
        tester = replace(served.route, headers={"Cookie": "a=b; tester=always; c=d"})
        _until(lambda: ask_many(tester, PINNED) == {candidate: PINNED})
        _until(lambda: not _cookies(served.route))
        other = replace(served.route, headers={"Cookie": "tester=always-not"})
        assert stable in ask_many(other, PINNED)

        with Load(tester) as load:
            load.until_answered_by(candidate)
            served.command(f"abort@{candidate}#2")
            served.until(lambda seen: state_of(seen) == "RolledBack")
        assert load.failed == [], "the way home costs a tester nothing"
        for client in (of_candidate, tester):
            assert ask_many(client, PINNED) == {stable: PINNED}


def _until_held(served: Served, weight: int) -> str:
    def held(seen: Manifest) -> bool:
        rollout = seen["status"]["rollout"]
        return rollout.get("pausedReason") == "Step" and bool(rollout["weight"] == weight)

    return revision_of(served.until(held), "candidate")


def _until(holds: Any) -> None:
    deadline = time.monotonic() + REACHES_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _cookies(route: Route) -> dict[str, str]:
    """Ask as new clients; return the cookie that each revision sets."""
    answers = [route.ask() for _ in range(20)]
    assert {answer.status for answer in answers} == {OK}
    return {
        answer.revision: answer.headers["set-cookie"]
        for answer in answers
        if "set-cookie" in answer.headers
    }


def _clients(route: Route, stable: str, candidate: str) -> tuple[Route, Route]:
    """Return a client of each revision, with the cookie that it was given."""
    made = []
    found = _cookies(route)
    for revision, value in ((stable, "never"), (candidate, "always")):
        ((name, morsel),) = SimpleCookie(found[revision]).items()
        assert name == f"modelyard-revision-{candidate.rpartition('-')[2]}"
        assert (morsel.value, morsel["path"], morsel["samesite"]) == (value, "/", "Lax")
        made.append(replace(route, headers={"Cookie": f"a=b; {name}={value}"}))
    of_stable, of_candidate = made
    return of_stable, of_candidate


def _survives_the_loss_of_the_candidate(
    served: Served, client: Route, stable: str, candidate: str
) -> None:
    """Without a ready pod the cookie means nothing; it does again when there is one."""
    with Load(client) as load:
        load.until_answered_by(candidate)
        (pod,) = served.pods(candidate)
        quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
        served.api.create(
            "ResourceQuota", served.namespace, quota
        )  # a pod may be ready in two seconds
        served.api.delete("Pod", served.namespace, pod["metadata"]["name"])
        load.until_answered_by(stable, REACHES_S)
        served.api.delete("ResourceQuota", served.namespace, "none")
        load.until_answered_by(candidate, REACHES_S)
    found = Counter(sample.status for sample in load.samples)
    assert found.keys() <= {OK, 502, 503}, found
