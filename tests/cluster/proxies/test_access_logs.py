"""One line of a proxy's access log tells which revision has answered which request."""

import pytest

from testkit.cluster_lab import Lab
from testkit.cluster_proxies import PROFILES, Profile
from testkit.proxy_logs import LOGS, logged

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_a_line_has_the_request_and_the_revision(lab: Lab, profile: Profile) -> None:
    with profile.bench(lab, "logs") as bench:
        served = profile.serve(bench, "fraud")
        served.until_answered()
        answer = served.route.ask()
        (line,) = logged(lab, profile, {answer.headers["X-Request-Id"]})
        assert line[LOGS[profile.known_as].revision] == answer.revision
