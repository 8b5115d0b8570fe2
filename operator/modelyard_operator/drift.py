"""Whether a live object is what we want: leaf by leaf, blind to what others added.

The API server adds defaults and other controllers add fields; neither is ours to judge. A hash of
what was applied last finds the opposite: fields that we stopped wanting.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Any, Final

from modelyard_operator.resources import labels

Manifest = dict[str, Any]

QUANTITY: Final = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?P<suffix>[KMGTPE]i|[numkMGTPE]?)"
)
QUANTITY_FIELDS: Final = frozenset({"requests", "limits", "sizeLimit", "divisor"})
"""Fields that hold a quantity or a map of them; elsewhere a string is compared to the letter."""
SUFFIXES: Final = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}


def stamp(manifest: Manifest) -> Manifest:
    """Return the manifest with the hash of itself in an annotation."""
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), labels.APPLIED_HASH: digest}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def differs(desired: object, live: object, *, quantity: bool = False) -> bool:
    """Tell whether a leaf of ``desired`` is not so in ``live``.

    Lists are compared item by item: a list of ours has no items that others may add.

    Args:
        desired: What we want, or a part of it.
        live: The same place in the live object.
        quantity: Strings in here are quantities.
    """
    match desired:
        case Mapping():
            if not isinstance(live, Mapping):
                return bool(desired) or live is not None
            return any(
                differs(value, live.get(key), quantity=quantity or key in QUANTITY_FIELDS)
                for key, value in desired.items()
            )
        case str():
            return desired != live and not (quantity and _same_quantity(desired, live))
        case Sequence():
            if not isinstance(live, Sequence) or len(live) != len(desired):
                return bool(desired or live)
            return any(differs(*pair) for pair in zip_longest(desired, live))
        case _:
            return desired != live


def _same_quantity(desired: str, live: object) -> bool:
    """The API server stores quantities in its own form: 1000m as 1, 0.5 as 500m."""
    if not isinstance(live, str):
        return False
    wanted, found = QUANTITY.fullmatch(desired), QUANTITY.fullmatch(live)
    return wanted is not None and found is not None and _amount(wanted) == _amount(found)


def _amount(match: re.Match[str]) -> Decimal:
    return Decimal(match["number"]) * SUFFIXES[match["suffix"]]
