"""A candidate without its Service, without its pod, and gone: what it costs its callers."""

import time
from typing import Final

import pytest

from testkit.cluster_api import revision_of, state_of
from testkit.cluster_lab import Lab, Served
from testkit.cluster_proxies import PROFILES, Profile, ask_many
from testkit.cluster_shifts import Shifts, last_answer_s
from testkit.cluster_traffic import TIMEOUT_S, Load

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

READ_S: Final = 4.0
"""Traefik reads its routes twice in that time."""
STEPS: Final = [{"weight": 30, "pause": "Manual"}, {"weight": 100}]
REQUESTS: Final = 100


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_a_lost_candidate_costs_its_callers_little(
    lab: Lab, figures: dict[str, object], profile: Profile
) -> None:
    with profile.bench(lab, "losses") as bench:
        served = profile.serve(bench, "fraud", rollout={"steps": STEPS})
        served.until_answered()
        stable = revision_of(served.edit_to(2), "stable")
        held = served.until(lambda seen: seen["status"]["rollout"].get("pausedReason") == "Step")
        candidate = revision_of(held, "candidate")
        with Load(served.route) as load:
            load.until_answered_by(candidate)
            _replace_service(served, candidate)
            _until_read(load)
            load.until_answered_by(candidate)
        missing = set() if profile.falls_back else {500, 503}
        figures[f"{profile}: without the candidate's Service"] = _told(load, missing)

        with Load(served.route) as load:
            load.until_answered_by(candidate)
            (pod,) = served.pods(candidate)
            lab.api.delete("Pod", served.namespace, pod["metadata"]["name"])
            lab.api.until_gone("Pod", served.namespace, pod["metadata"]["name"])
            assert ask_many(served.route, REQUESTS).keys() <= {stable, candidate}
            load.until_answered_by(candidate)
        figures[f"{profile}: without the candidate's pod"] = _told(load, {503})

        with Load(served.route) as load, Shifts(served) as shifts:
            load.until_answered_by(candidate)
            served.command(f"abort@{candidate}#1")
            served.until(lambda seen: state_of(seen) == "RolledBack")
            lab.api.until_gone("Service", served.namespace, candidate)
            assert ask_many(served.route, REQUESTS).keys() == {stable}
        assert load.failed == []
        lasted_s = last_answer_s(load.samples, candidate, shifts.written_at(candidate, 0))
        figures[f"{profile}: last answer of a candidate without weight"] = f"{lasted_s:.2f} s"


def _replace_service(served: Served, name: str) -> None:
    """Delete a Service by hand, and wait until the operator has made it again."""
    where = ("Service", served.namespace, name)
    before = served.api.need(*where)["metadata"]["uid"]
    served.api.delete(*where)
    served.api.until(*where, lambda seen: seen["metadata"]["uid"] != before)


def _until_read(load: Load) -> None:
    """Wait until the proxy has read what is there now, and no request has failed since."""
    begun = time.monotonic()
    while time.monotonic() < max([begun, *(one.at for one in load.failed)]) + READ_S:
        assert time.monotonic() < begun + TIMEOUT_S, load.failed[-3:]
        time.sleep(load.pause_s)


def _told(load: Load, allowed: set[int]) -> str:
    """Say what a loss has cost, once it is known to be what the proxy must do and no more.

    The Gateway API asks for 500 without a Service and for 503 without a pod; a proxy may notice the
    first when it has already been repaired. Behind Traefik's Ingresses a pod that is leaving may cost
    503 until the proxy reads the route again, two seconds at most.
    """
    failed = load.failed
    assert {one.status for one in failed} <= allowed, failed[:3]
    lasted_s = failed[-1].at - failed[0].at if failed else 0.0
    return f"{len(failed)} of {len(load.samples)} failed, over {lasted_s:.1f} s"
