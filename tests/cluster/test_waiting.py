"""`kubectl apply && kubectl wait` never returns on the old revision."""

import pytest

from testkit.cluster_api import revision_of
from testkit.cluster_lab import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.together]

TRIES = 100


def test_waiting_after_an_edit_never_returns_on_the_old_revision(lab: Lab) -> None:
    """Each edit asks for a node that does not exist: whoever returns, returns on the old one."""
    with lab.bench("waiting") as bench:
        served = bench.serve("fraud")
        stable = revision_of(served.until_ready(), "stable")
        wait = ("wait", "--for=condition=Ready", "mdep/fraud", f"--namespace={bench.namespace}")
        early: list[int] = []
        for number in range(TRIES):
            served.edit(scheduling={"nodeSelector": {"nowhere": str(number)}})
            if lab.kubectl(*wait, "--timeout=300ms", check=False).returncode == 0:
                early.append(number)
            served.edit(scheduling={"nodeSelector": None})
            lab.kubectl(*wait, "--timeout=60s")
        assert early == []
        assert revision_of(served.get(), "stable") == stable
