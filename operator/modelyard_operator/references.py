"""ConfigMaps of users that ModelDeployments take files from: what they hold, and who reads them.

Only those that somebody names are kept. One is looked up when a pass first needs it; from then on
the watch tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from modelyard_operator.files import Contents
    from modelyard_operator.store import Key

Manifest = dict[str, Any]


class _Held(NamedTuple):
    """What is known of a ConfigMap; ``data`` is None when there is none of the name."""

    version: int
    data: Contents | None


class References:
    """ConfigMaps by namespace and name, with the ModelDeployments that name them."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], _Held] = {}
        self._named: dict[Key, frozenset[str]] = {}

    def name(self, key: Key, config_maps: frozenset[str]) -> list[str]:
        """Note what a ModelDeployment names.

        Returns:
            Those that have to be looked up.
        """
        before = self._named.get(key, frozenset())
        if config_maps:
            self._named[key] = config_maps
        else:
            self._named.pop(key, None)
        self._drop_unread(key.namespace, before - config_maps)
        return sorted(one for one in config_maps if (key.namespace, one) not in self._held)

    def forget(self, key: Key) -> None:
        """Note that a ModelDeployment is gone."""
        self.name(key, frozenset())

    def contents(self, key: Key) -> Mapping[str, Contents | None]:
        """Return what the ConfigMaps hold that a ModelDeployment names, as far as is known."""
        names = self._named.get(key, frozenset())
        found = {name: self._held.get((key.namespace, name)) for name in names}
        return {name: held.data for name, held in found.items() if held is not None}

    def found(self, namespace: str, name: str, raw: Manifest | None) -> None:
        """Take in what a look-up found; news of the watch that came meanwhile are newer."""
        held = _held(raw) if raw else _Held(0, None)
        known = self._held.get((namespace, name))
        if known is None or known.version < held.version:
            self._held[namespace, name] = held

    def note(self, raw: Manifest, *, deleted: bool) -> set[Key]:
        """Take in an event of the watch; returns the ModelDeployments that it concerns."""
        namespace, name = raw["metadata"]["namespace"], raw["metadata"]["name"]
        readers = {
            key
            for key, names in self._named.items()
            if key.namespace == namespace and name in names
        }
        if not readers:
            return readers
        news, known = _held(raw), self._held.get((namespace, name))
        if deleted:
            news = _Held(news.version, None)
        if known is not None and (known.version > news.version or known == news):
            return set()
        self._held[namespace, name] = news
        return readers if known is None or known.data != news.data else set()

    def expire(self) -> set[Key]:
        """Have everything looked up anew, since a cut watch may have missed a deletion."""
        self._held.clear()
        return set(self._named)

    def _drop_unread(self, namespace: str, names: Iterable[str]) -> None:
        for name in names:
            if not any(
                key.namespace == namespace and name in named for key, named in self._named.items()
            ):
                self._held.pop((namespace, name), None)


def _held(raw: Manifest) -> _Held:
    return _Held(int(raw["metadata"]["resourceVersion"]), raw.get("data") or {})
