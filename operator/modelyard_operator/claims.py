"""Hosts and paths that ModelDeployments claim, and whose each is: the older one's.

Two routes for one host and path would share its requests by rules that differ from proxy to proxy,
so that one tenant could take another's. Claims are those of all the objects that are watched, indexed
by host and path; an object that has no rival costs one look-up.

A suspended object keeps its claims, or its callers would reach somebody else's model meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from modelyard_operator.spec import ExposureSpec
from modelyard_operator.traffic.conflicts import Conflict
from modelyard_operator.traffic.proxy import Routed, resolve_proxy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelyard_operator.settings import OperatorSettings
    from modelyard_operator.store import Key

Manifest = dict[str, Any]


class Address(NamedTuple):
    """A host and a path, the latter without a slash at its end."""

    host: str
    path: str


class Entry(NamedTuple):
    """Where requests come in; another class or Gateway is another entry, with hosts of its own.

    The listeners of one Gateway are one entry: who has a host has it encrypted and not.

    Attributes:
        dialect: Kind of the routes.
        proxy: Name of the IngressClass, or namespace and name of the Gateway. Empty is the cluster's
            default, which may be any class.
    """

    dialect: str
    proxy: str

    def meets(self, other: Entry) -> bool:
        """Tell whether one proxy may see the routes of both."""
        same = self.proxy == other.proxy or not (self.proxy and other.proxy)
        return same and self.dialect == other.dialect


@dataclass(frozen=True)
class Claim:
    """What one ModelDeployment claims.

    Attributes:
        created: ``creationTimestamp``; in this form the order of texts is that of times.
        key: Who; decides between two of one second.
        exposures: What it asks for, and what its routes were written for last: until they follow,
            or while the former is held back, it claims both.
        resolved: Dialect that its status names.
    """

    created: str
    key: Key
    exposures: tuple[ExposureSpec, ...]
    resolved: str | None

    @property
    def addresses(self) -> frozenset[Address]:
        """What it claims; nothing without a route."""
        return frozenset(
            Address(host, exposure.path_prefix)
            for exposure in self.exposures
            if exposure.dialect != "None"
            for host in exposure.hosts
        )

    def entries(self, settings: OperatorSettings) -> Iterator[Entry]:
        """Yield where it claims them: during a change of dialect at the old entry, too."""
        named = [
            exposure.model_copy(update={"dialect": dialect})
            for exposure in self.exposures
            for dialect in {exposure.dialect, self.resolved} & {"Auto", "Ingress", "Gateway"}
        ]
        for exposure in named:
            proxy = resolve_proxy(exposure, settings, Routed(resolved=self.resolved))
            if proxy.dialect == "Ingress":
                yield Entry("Ingress", proxy.ingress_class)
            elif proxy.gateway is not None:
                namespace = proxy.gateway.namespace or self.key.namespace
                yield Entry("Gateway", f"{namespace}/{proxy.gateway.name}")


class Claims:
    """What every ModelDeployment claims, and who else claims it."""

    def __init__(self) -> None:
        self._claims: dict[Key, Claim] = {}
        self._claimants: defaultdict[Address, set[Key]] = defaultdict(set)
        self._stirred: set[Key] = set()

    def put(self, key: Key, raw: Manifest) -> None:
        """Take in an object; one that this version of the operator cannot read claims nothing."""
        claim = _read(key, raw)
        if claim == self._claims.get(key):
            return
        self.remove(key)
        if claim is None:
            return
        self._claims[key] = claim
        for address in claim.addresses:
            self._claimants[address].add(key)
        self._stirred |= self.rivals(key)

    def remove(self, key: Key) -> None:
        """Forget an object."""
        self._stirred |= self.rivals(key)
        claim = self._claims.pop(key, None)
        for address in claim.addresses if claim else ():
            self._claimants[address].discard(key)
            if not self._claimants[address]:
                del self._claimants[address]

    def stirred(self) -> set[Key]:
        """Return whom the changes since the last call may concern, beside those that changed."""
        found, self._stirred = self._stirred, set()
        return found

    def rivals(self, key: Key) -> set[Key]:
        """Return who claims the same as one, at whatever entry."""
        claim = self._claims.get(key)
        addresses = claim.addresses if claim else ()
        return {one for address in addresses for one in self._claimants[address]} - {key}

    def lost(self, key: Key, settings: OperatorSettings) -> tuple[Conflict, ...]:
        """Return what one claims in vain, and whose it is.

        Args:
            key: The ModelDeployment.
            settings: The operator's own settings; they tell what is meant where nothing is named.
        """
        claim = self._claims.get(key)
        if claim is None or not self.rivals(key):
            return ()
        found = []
        for address in sorted(claim.addresses):
            claims = [self._claims[one] for one in self._claimants[address]]
            if holder := _holder(claim, claims, settings):
                found.append(Conflict(*address, holder.namespace, holder.name))
        return tuple(found)


def _read(key: Key, raw: Manifest) -> Claim | None:
    traffic = (raw.get("status") or {}).get("traffic") or {}
    asked, written = raw["spec"].get("exposure") or {}, traffic.get("exposure") or {}
    try:
        exposures = tuple(ExposureSpec.model_validate(one) for one in (asked, written))
    except ValidationError:
        return None  # the pass over it tells, and leaves its routes as they are
    return Claim(raw["metadata"]["creationTimestamp"], key, exposures, traffic.get("dialect"))


def _holder(claim: Claim, claims: Iterable[Claim], settings: OperatorSettings) -> Key | None:
    """Return who keeps a claim from its address: one that is older, and is not kept from it."""
    holders: list[tuple[Key, tuple[Entry, ...]]] = []
    for one in sorted(claims, key=lambda each: (each.created, each.key)):
        entries = tuple(one.entries(settings))
        holder = next((key for key, held in holders if _meet(held, entries)), None)
        if one is claim:
            return holder
        if holder is None:
            holders.append((one.key, entries))
    return None


def _meet(these: Iterable[Entry], those: Iterable[Entry]) -> bool:
    return any(one.meets(other) for one in these for other in those)
