"""Every reason that a status may show has its line in docs/reference/failures.md."""

import re
from collections.abc import Iterator

from modelyard_operator import checks, errors, strictness
from modelyard_operator.failures import finding, kubelet, placement
from modelyard_runtime.errors import Reason
from testkit.crd import ROOT

PAGE = (ROOT / "docs" / "reference" / "failures.md").read_text()
ROOM = ROOT / "operator" / "modelyard_operator" / "failures"
LITERAL = re.compile(r'(?:reason=|Failure\(\s*)"([A-Z]\w+)"')
NOT_SHOWN = {"Error", "ClusterError", "Conflict", "Rejected", "Gone", "ScrapeError"}
"""Reasons of errors that are retried at once, or are another's cause."""


def _subclasses(kind: type[errors.ModelyardOperatorError]) -> Iterator[str]:
    yield kind.reason
    for child in kind.__subclasses__():
        yield from _subclasses(child)


def _reasons() -> set[str]:
    literals = {found for path in ROOM.glob("*.py") for found in LITERAL.findall(path.read_text())}
    assert checks.UnsupportedURISchemeError.reason  # its errors count, too
    assert strictness.FeaturesUnsupportedError.reason
    return {
        *map(str, Reason),
        *literals,
        *(reason for reason, *_ in kubelet.WAITING.values()),
        *(reason for reason, _ in kubelet._EVENTS.values()),
        *(reason for reason, _ in finding._ENDED.values()),
        *(reason for _, reason, _ in (*placement._SCHEDULER, *placement._CREATION)),
        *(f"{kind}NotFound" for kind in kubelet._KINDS.values()),
        *(set(_subclasses(errors.ModelyardOperatorError)) - NOT_SHOWN),
    }


def test_every_reason_has_its_line() -> None:
    reasons = _reasons()
    assert {"ProbeFailed", "PortInUse", "DownloadOutOfMemory", "AccessDenied"} <= reasons
    assert len(reasons) > 45
    documented = set(re.findall(r"`([A-Z]\w+)`", PAGE))
    assert reasons - documented == set()
