"""Nothing is claimed of a proxy that the tests run behind unless one of them sees it."""

from typing import Final

from modelyard_operator.traffic.capabilities import CAPABILITIES
from testkit.cluster_proxies import GENERIC, PROFILES
from testkit.proofs import Cell, declared

CLAIMED: Final = {
    Cell(profile, feature) for profile, row in CAPABILITIES.items() for feature in row
}
RUNS_HERE: Final = {one.known_as for one in (*PROFILES, GENERIC)}


def test_every_cell_of_a_proxy_that_runs_here_has_a_test() -> None:
    proven = declared()
    missing = {cell for cell in CLAIMED - proven.keys() if cell.profile in RUNS_HERE}
    assert sorted(missing) == []
    assert sorted(proven.keys() - CLAIMED) == [], "proofs of what the table does not list"
