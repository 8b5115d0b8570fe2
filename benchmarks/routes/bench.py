"""How soon does a proxy follow a change of weights, and does it lose a request? On the local cluster.

    python benchmarks/routes/bench.py              writes benchmarks/results/routes.md, a quarter of an hour
    python benchmarks/routes/bench.py --rollouts 2    a look

Behind each proxy a model is rolled out again and again under a steady load. Every other rollout is
aborted at half of the requests. A weight counts as written when the API server tells a watcher of it,
and as followed when the first request is sent that the new revision answers, or the last one that the
old revision does. Ends with 1 when a request failed, or a proxy took longer than two seconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from testkit.cluster_api import Manifest, revision_of, state_of
from testkit.cluster_lab import open_lab
from testkit.cluster_proxies import PROFILES, Profile
from testkit.cluster_shifts import Shifts, first_answer_s, last_answer_s
from testkit.cluster_traffic import Load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testkit.cluster_lab import Lab, Served

RESULTS: Final = Path(__file__).parent.parent / "results" / "routes.md"
ROLLOUTS: Final = 10
"""Of two changes each that clients can tell from the answers alone."""
HALF: Final = 50
ALL: Final = 100
ROLLOUT: Final[Any] = {
    "steps": [{"weight": HALF, "pause": "Manual"}, {"weight": ALL}],
    "bakeSeconds": 0,
}
CLIENTS: Final = 4
PAUSE_S: Final = 0.04
ALLOWED_S: Final = 2.0
PAGE: Final = """\
# How soon a proxy follows a change of weights

`make bench-routes`: {rollouts} rollouts of a model behind each proxy, one after the other, under at most
{rate} requests a second; every other one is aborted at half of the requests. From the moment when the API
server tells of a written weight until the first request is sent that the new revision answers, or the
last one that the old revision does: median and worst.

| proxy | changes | first answer of the new | last answer of the old | requests | failed |
|---|---|---|---|---|---|
{rows}
"""


@dataclass
class Followed:
    """What clients saw of the changes behind one proxy.

    Attributes:
        name: The proxy.
        first_s: From a write to the first answer of the new revision, in seconds.
        last_s: From a write to the last answer of the old one.
        requests: Requests in all.
        failed: Those without a good answer.
    """

    name: str
    first_s: list[float] = field(default_factory=list)
    last_s: list[float] = field(default_factory=list)
    requests: int = 0
    failed: int = 0

    @property
    def holds(self) -> bool:
        """Whether no request was lost, and nobody waited too long."""
        return not self.failed and max(self.first_s + self.last_s) < ALLOWED_S

    def row(self) -> str:
        """Return the line of the table."""
        changes = len(self.first_s) + len(self.last_s)
        spans = (_told(self.first_s), _told(self.last_s))
        cells = (self.name, str(changes), *spans, f"{self.requests:,}", str(self.failed))
        return f"| {' | '.join(cells)} |"


def measure(lab: Lab, profile: Profile, rollouts: int) -> Followed:
    """Roll a model out behind a proxy under load.

    Args:
        lab: The cluster.
        profile: The proxy.
        rollouts: How often; every other time it is aborted.
    """
    followed = Followed(str(profile))
    with profile.bench(lab, "bench") as bench:
        served = profile.serve(bench, "fraud", replicas=2, rollout=ROLLOUT)
        served.until_answered()
        with Load(served.route, CLIENTS, PAUSE_S) as load, Shifts(served) as shifts:
            for number in range(1, rollouts + 1):
                _roll_out(served, number, load, shifts, followed)
    followed.requests, followed.failed = len(load.samples), len(load.failed)
    return followed


def _roll_out(served: Served, number: int, load: Load, shifts: Shifts, followed: Followed) -> None:
    """Go to half of the requests, and from there to all of them or back to none."""
    stable = revision_of(served.edit(model={"version": f"{number + 1}"}), "stable")
    candidate = revision_of(served.until(_is_held), "candidate")
    since = shifts.written_at(candidate, HALF)
    followed.first_s.append(first_answer_s(load.samples, candidate, since))
    if number % 2:
        served.command(f"resume@{candidate}#{number}")
        served.until_ready()
        old, since = stable, shifts.written_at(candidate, ALL)
    else:
        served.command(f"abort@{candidate}#{number}")
        served.until(lambda seen: state_of(seen) == "RolledBack")
        old, since = candidate, shifts.written_at(candidate, 0)
    followed.last_s.append(last_answer_s(load.samples, old, since))


def _is_held(seen: Manifest) -> bool:
    rollout = seen["status"]["rollout"]
    return rollout.get("pausedReason") == "Step" and bool(rollout["weight"] == HALF)


def _told(spans_s: Sequence[float]) -> str:
    median, worst = statistics.median(spans_s) * 1000, max(spans_s) * 1000
    return f"{median:.0f} ms, {worst:.0f} ms"


def report(found: Sequence[Followed], rollouts: int) -> str:
    """Return the page."""
    rate = f"{CLIENTS / PAUSE_S:.0f}"
    rows = "\n".join(one.row() for one in found)
    return PAGE.format(rollouts=rollouts, rate=rate, rows=rows)


def main() -> None:
    """Measure all proxies and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rollouts", type=int, default=ROLLOUTS, help="behind each proxy")
    parser.add_argument("--profiles", default="", help="words of their names; default: all")
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder, open_lab(Path(folder)) as lab:
        for profile in PROFILES:
            if given.profiles in str(profile):
                found.append(measure(lab, profile, given.rollouts))
                print(found[-1].row(), flush=True)
    if len(found) == len(PROFILES) and given.rollouts >= ROLLOUTS:
        RESULTS.write_text(report(found, given.rollouts), encoding="utf-8")
    sys.exit(0 if all(one.holds for one in found) else 1)


if __name__ == "__main__":
    main()
