"""Golden requests: who does not answer as recorded never serves, until it is recorded anew."""

import json
import time
from typing import Final

import pytest

from testkit.cluster_api import Manifest, condition, revision_of
from testkit.cluster_lab import Bench, Lab, Served
from testkit.cluster_traffic import Load, infer_body

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

GOLDEN: Final = "golden"
KEY: Final = "verify.json"
HOLD_S: Final = 12.0
"""Long enough for the runtime to be started once more: that is no news."""


def test_a_candidate_that_disagrees_never_serves_and_a_promoted_pod_does(lab: Lab) -> None:
    with lab.bench("verification") as bench:
        verified = _serve(bench)
        stable = _rejects(verified)
        # Recorded anew, the same model may come in.
        lab.api.patch("ConfigMap", bench.namespace, GOLDEN, _golden(20.0))
        done = verified.until_ready()
        assert condition(done, "Verified")["status"] == "True"
        assert verified.route.version() == 2
        assert revision_of(done, "stable") != stable
        name = f"{revision_of(done, 'stable')}-directives"
        directives = lab.api.need("ConfigMap", bench.namespace, name)["data"]["directives.json"]
        assert json.loads(directives)["verification"] == "Report"


def _serve(bench: Bench) -> Served:
    """Serve a model that answers its golden request as recorded."""
    bench.lab.api.create("ConfigMap", bench.namespace, _golden(10.0))
    requests = [{"configMapName": GOLDEN, "key": KEY}]
    served = bench.serve("verified", rollout={"verification": {"requests": requests}})
    assert condition(served.until_ready(), "Verified")["status"] == "True"
    served.until_answered()
    return served


def _rejects(verified: Served) -> str:
    """Ask for what answers otherwise; return the revision that serves all the while."""
    stable = revision_of(verified.get(), "stable")
    with Load(verified.route) as load:
        verified.edit_to(2)  # answers 20 where 10 is recorded
        seen = verified.until(lambda one: one["status"]["rollout"]["state"] == "RolledBack")
        time.sleep(HOLD_S)
        later = verified.get()
    assert load.failed == []
    assert {sample.revision for sample in load.samples} == {stable}
    for one in (seen, later):
        ready, rollback = condition(one, "Ready"), one["status"]["rollout"]["lastRollback"]
        assert (ready["status"], ready["reason"]) == ("False", "VerificationFailed")
        assert condition(one, "Verified")["status"] == "False"
        assert condition(one, "Stalled")["status"] == "True"
        assert rollback["reason"] == "VerificationFailed"
        assert "y" in rollback["message"]
        assert revision_of(one, "stable") == stable
        assert "candidate" not in one["status"]
    return stable


def _golden(answer: float) -> Manifest:
    """One recorded request; version 1 answers 10 to it."""
    output = {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [answer, answer]}
    case = {"request": json.loads(infer_body()), "response": {"outputs": [output]}}
    return {"metadata": {"name": GOLDEN}, "data": {KEY: json.dumps([case])}}
