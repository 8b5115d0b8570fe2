"""How figures, times and commands are written, the same everywhere."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from modelyard_cli.view import Counts

MINUTE_S: Final = 60
HOUR_S: Final = 60 * MINUTE_S
DAY_S: Final = 24 * HOUR_S
UNITS: Final = (
    (DAY_S, "d", HOUR_S, "h"),
    (HOUR_S, "h", MINUTE_S, "min"),
    (MINUTE_S, "min", 1, "s"),
)


@dataclass(frozen=True)
class Caller:
    """How this program was called, so that the commands it proposes can be pasted.

    Attributes:
        program: ``modelyard`` or ``kubectl modelyard``.
        cluster: Flags that chose the cluster, such as ``--context prod``; kubectl takes them too.
        namespace: Namespace that was asked for; empty for that of the context.
    """

    program: str = "modelyard"
    cluster: str = ""
    namespace: str = ""

    def own(self, verb: str, name: str = "", rest: str = "") -> str:
        """Return a command of this program."""
        return _join(self.program, verb, name, rest, self._namespaced, self.cluster)

    def kubectl(self, rest: str) -> str:
        """Return a kubectl command that is about the object's namespace."""
        return _join("kubectl", rest, self._namespaced, self.cluster)

    def kubectl_anywhere(self, rest: str) -> str:
        """Return a kubectl command that is about the whole cluster, or names its namespace."""
        return _join("kubectl", rest, self.cluster)

    def edit(self, name: str, spec: str) -> str:
        """Return the kubectl command that merges JSON into the spec."""
        patch = f'{{"spec":{spec}}}'
        return self.kubectl(f"patch mdep/{name} --type=merge -p '{patch}'")

    def operator_log(self) -> str:
        """Return the kubectl command that shows the operator's log."""
        selector = "app.kubernetes.io/component=operator"
        return self.kubectl_anywhere(f"logs -n modelyard-system -l {selector} --tail=50")

    @property
    def _namespaced(self) -> str:
        return f"-n {self.namespace}" if self.namespace else ""


def _join(*words: str) -> str:
    return " ".join(filter(None, words))


def duration(seconds: float) -> str:
    """Return a time span as people say it: ``45 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 d 3 h``."""
    left = max(0, round(seconds))
    for size, unit, smaller, part in UNITS:
        if left >= size:
            rest = left % size // smaller
            return f"{left // size} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{left} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long something has lasted; empty where nobody knows."""
    return duration((now - moment).total_seconds()) if moment else ""


def until(moment: datetime | None, now: datetime) -> str:
    """Return how long it takes until a moment; ``now`` when it has passed."""
    if moment is None:
        return ""
    left = (moment - now).total_seconds()
    return f"in {duration(left)}" if left > 0 else "now"


def rate(counts: Counts) -> str:
    """Return bad requests of all: ``61 of 310 (19.7 %)``."""
    share = counts.rate
    return f"{counts.bad:,} of {counts.n:,}" + ("" if share is None else f" ({percent(share)})")


def percent(share: float) -> str:
    """Return a share in percent, with as many digits as small ones need."""
    value = 100 * share
    form = ".0f" if value in {0, 100} else ".1f" if value >= 1 else ".2g"
    return f"{value:{form}} %"


def number(text: str) -> str:
    """Return a number that status holds as text in at most four digits; other text as it is."""
    try:
        value = float(text)
    except ValueError:
        return text
    return f"{value:.3g}"
