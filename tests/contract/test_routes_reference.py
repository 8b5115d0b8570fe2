"""docs/reference/routes.md says what the operator's own table does."""

import re

from modelyard_operator.traffic.capabilities import CAPABILITIES
from testkit.crd import ROOT

TEXT = (ROOT / "docs" / "reference" / "routes.md").read_text()


def _cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def test_the_capabilities_are_those_of_the_code() -> None:
    table = TEXT[TEXT.index("| field |") :].partition("\n\n")[0].splitlines()
    header, _, *rows = map(_cells, table)
    assert header[1:] == list(CAPABILITIES)
    found = {
        (profile, feature): cell
        for feature, *cells in rows
        for profile, cell in zip(header[1:], cells, strict=True)
    }
    assert found == {
        (profile, feature): cell
        for profile, row in CAPABILITIES.items()
        for feature, cell in row.items()
    }


def test_every_reason_of_routes_is_explained() -> None:
    sources = (ROOT / "operator" / "modelyard_operator").rglob("*.py")
    code = "".join(path.read_text() for path in sources if path.parent.name == "traffic")
    code += (ROOT / "operator" / "modelyard_operator" / "gateways.py").read_text()
    reasons = set(re.findall(r'Problem\(\s*"(\w+)"', code))
    assert len(reasons) >= 5
    explained = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert reasons <= explained
