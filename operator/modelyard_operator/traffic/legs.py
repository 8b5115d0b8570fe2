"""How requests get from the proxy to the pods: in plain text, in TLS, and what lies between.

Envoy hears of a backend's addresses and of what is spoken there one after the other. An address that it
knows too early, or too long, is spoken to in the wrong way for some milliseconds. So the ports of one kind
join and leave those of the other with next to no weight, and the weights change between the two, alone.
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple

_SCALE: Final = 1000
_NEXT_TO_NOTHING: Final = 1
"""Of a million: the weights' largest value in the Gateway API is the whole of them."""


class Leg(IntEnum):
    """What the routes name; to go from one end to the other each is taken in turn."""

    PLAIN = 0
    PLAIN_ABOVE_TLS = 1
    TLS_ABOVE_PLAIN = 2
    TLS = 3

    def towards(self, end: "Leg") -> "Leg":
        """Return the next one on the way to an end."""
        return Leg(self + (end > self) - (end < self))


class Ports(NamedTuple):
    """Ports of a revision's Service.

    Attributes:
        plain: For plain text.
        tls: For TLS.
    """

    plain: int
    tls: int


def build_backend_refs(
    shares: Mapping[str, int], encrypted: Iterable[str], ports: Ports, leg: Leg
) -> list[dict[str, Any]]:
    """Build the ``backendRefs`` of a rule.

    Args:
        shares: Per mille of its requests that each revision gets.
        encrypted: Revisions that speak TLS; where the leg is ``TLS``, all.
        ports: Where they do, and where they do not.
        leg: How requests get there.
    """
    if leg in {Leg.PLAIN, Leg.TLS}:
        port = ports.tls if leg is Leg.TLS else ports.plain
        return [_ref(name, port, share) for name, share in shares.items()]
    able = frozenset(encrypted)
    refs = []
    for name, share in shares.items():
        most, least = share * _SCALE, min(share, _NEXT_TO_NOTHING)
        tls, plain = (most, least) if leg is Leg.TLS_ABOVE_PLAIN else (least, most)
        refs += [_ref(name, ports.tls, tls)] if name in able else []
        refs.append(_ref(name, ports.plain, plain))
    return refs


def read_leg(refs: Iterable[Mapping[str, Any]], ports: Ports) -> Leg:
    """Return which leg ``backendRefs`` are of, by the ports that they name.

    Args:
        refs: Those of a live rule.
        ports: What the ports mean.
    """
    weights = [(ref.get("port") == ports.tls, ref.get("weight", 1)) for ref in refs]
    tls = sum(weight for encrypted, weight in weights if encrypted)
    plain = sum(weight for encrypted, weight in weights if not encrypted)
    if len({encrypted for encrypted, _ in weights}) > 1:
        return Leg.TLS_ABOVE_PLAIN if tls > plain else Leg.PLAIN_ABOVE_TLS
    return Leg.TLS if weights and weights[0][0] else Leg.PLAIN


def _ref(service: str, port: int, weight: int) -> dict[str, Any]:
    return {"name": service, "port": port, "weight": weight}
