"""What the watches have told so far: plain dicts in memory, indexed by the object they belong to.

The store is seeded by complete lists before any worker starts, and the result of each own write
goes in at once; an echo of an older version never replaces a newer one.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from modelyard_operator.claims import Claims
from modelyard_operator.errors import ModelyardOperatorError
from modelyard_operator.kinds import MODEL_DEPLOYMENT, POD
from modelyard_operator.observed import ChildKey, Observed
from modelyard_operator.references import References
from modelyard_operator.resources import labels
from modelyard_operator.spec import ModelDeployment

Manifest = dict[str, Any]


class Key(NamedTuple):
    """Namespace and name of a ModelDeployment."""

    namespace: str
    name: str


class Store:
    """Everything known of ModelDeployments and of what carries their label.

    Attributes:
        references: ConfigMaps of users that ModelDeployments take files from.
        claims: Hosts and paths that ModelDeployments claim.
        absent: Names of kinds that could not be listed when the operator started.
    """

    def __init__(self) -> None:
        self.references = References()
        self.claims = Claims()
        self.absent: frozenset[str] = frozenset()
        self._model_deployments: dict[Key, Manifest] = {}
        self._children: defaultdict[Key, dict[ChildKey, Manifest]] = defaultdict(dict)
        self._rejections: dict[Key, tuple[int, ModelyardOperatorError]] = {}

    def put(self, raw: Manifest) -> Key | None:
        """Take in an object; returns the ModelDeployment that it concerns, if this is news."""
        key = owner_key(raw)
        if key is None:
            return None
        shelf, place = self._place(key, raw)
        known = shelf.get(place)
        if known and _version(known) >= _version(raw):
            return None  # an echo, or the last news of a namesake that is gone
        shelf[place] = slim(raw)
        if raw["kind"] == MODEL_DEPLOYMENT.name:
            self.claims.put(key, raw)
        return key

    def remove(self, raw: Manifest) -> Key | None:
        """Forget an object; returns the ModelDeployment that it concerned."""
        key = owner_key(raw)
        if key is None:
            return None
        shelf, place = self._place(key, raw)
        known = shelf.get(place)
        if known is None or _uid(known) != _uid(raw):
            return None  # a namesake made since then stays
        del shelf[place]
        if raw["kind"] == MODEL_DEPLOYMENT.name:
            self._rejections.pop(key, None)
            self.claims.remove(key)
        if not self._children.get(key):
            self._children.pop(key, None)
        return key

    def note(self, raw: Manifest, *, deleted: bool) -> set[Key]:
        """Take in an event of a watch; returns the ModelDeployments that it concerns.

        Among them are those that claim the same hosts, also where an own write changed the claim:
        its echo says it to them.
        """
        owner = self.remove(raw) if deleted else self.put(raw)
        return self.claims.stirred() | ({owner} if owner else set())

    def note_config_map(self, raw: Manifest, *, deleted: bool) -> set[Key]:
        """Take in news of any ConfigMap; returns the ModelDeployments that take files from it."""
        readers = self.references.note(raw, deleted=deleted)
        for key in readers:
            self._rejections.pop(key, None)  # the files may have been what was refused
        return readers

    def uids(self, kind: str) -> frozenset[str]:
        """Return which objects of a kind are known; taken before a list is asked for."""
        return frozenset(_uid(raw) for raw in self._of_kind(kind))

    def replace(self, kind: str, listed: Iterable[Manifest], known: frozenset[str]) -> set[Key]:
        """Make one kind equal to a complete list; returns whom that concerns.

        A watch that was cut may have missed deletions, and kopf does not make up for them. What came
        or went while the list was read is the watch's to tell: ``known`` is what was there before.
        """
        now = self.uids(kind)
        found = [raw for raw in listed if _uid(raw) in now or _uid(raw) not in known]
        gone = known - {_uid(raw) for raw in found}
        lost = [raw for raw in self._of_kind(kind) if _uid(raw) in gone]
        touched = [self.note(raw, deleted=True) for raw in lost]
        touched += [self.note(raw, deleted=False) for raw in found]
        return set().union(*touched)

    def observe(self, key: Key) -> Observed | None:
        """Return all that is known of one ModelDeployment; None when it does not exist.

        One that is deleted in the foreground is there until its children are gone: they must not be
        made again.

        Raises:
            InvalidSpecError: The stored object does not fit the types of this operator.
        """
        raw = self._model_deployments.get(key)
        if raw is None or "deletionTimestamp" in raw["metadata"]:
            return None
        model_deployment = ModelDeployment.parse(raw)
        shelf = self._children.get(key, {})
        generation, rejection = self._rejections.get(key, (0, None))
        return Observed(
            model_deployment=model_deployment,
            children={
                place: child
                for place, child in shelf.items()
                if place[0] != POD.name and controller_uid(child) == model_deployment.uid
            },
            pods=tuple(child for place, child in shelf.items() if place[0] == POD.name),
            rejection=rejection if generation == model_deployment.generation else None,
            config_maps=self.references.contents(key),
        )

    def reject(self, key: Key, generation: int, error: ModelyardOperatorError | None) -> None:
        """Remember that the API server refused a child of a generation, or that it did not."""
        if error is None:
            self._rejections.pop(key, None)
        else:
            self._rejections[key] = (generation, error)

    def get(self, key: Key, place: ChildKey) -> Manifest | None:
        """Return one child as last seen, whoever owns it."""
        return self._children.get(key, {}).get(place)

    def model_deployments(self) -> list[Key]:
        """Return every ModelDeployment."""
        return list(self._model_deployments)

    def _place(self, key: Key, raw: Manifest) -> tuple[dict[Any, Manifest], Any]:
        if raw["kind"] == MODEL_DEPLOYMENT.name:
            return self._model_deployments, key
        return self._children[key], (raw["kind"], raw["metadata"]["name"])

    def _of_kind(self, kind: str) -> list[Manifest]:
        if kind == MODEL_DEPLOYMENT.name:
            return list(self._model_deployments.values())
        return [
            raw
            for shelf in self._children.values()
            for (name, _), raw in shelf.items()
            if name == kind
        ]


def owner_key(raw: Manifest) -> Key | None:
    """Return the ModelDeployment that an object is or belongs to."""
    metadata = raw["metadata"]
    if raw["kind"] == MODEL_DEPLOYMENT.name:
        return Key(metadata["namespace"], metadata["name"])
    name = (metadata.get("labels") or {}).get(labels.MODEL_DEPLOYMENT)
    return Key(metadata["namespace"], name) if name else None


def controller_uid(raw: Manifest) -> str | None:
    """Return the uid of the object that controls this one."""
    for reference in raw["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference["uid"])
    return None


def slim(raw: Manifest) -> Manifest:
    """Keep what the operator looks at; of a pod that is its metadata and its state."""
    metadata = dict(raw["metadata"])
    times = [{"time": entry.get("time", "")} for entry in metadata.pop("managedFields", ())]
    if raw["kind"] == "ConfigMap":
        metadata["managedFields"] = times  # tells when the directives changed
    if raw["kind"] == POD.name:
        return {"kind": raw["kind"], "metadata": metadata, "status": raw.get("status", {})}
    return {**raw, "metadata": metadata}


def _uid(raw: Manifest) -> str:
    return str(raw["metadata"]["uid"])


def _version(raw: Manifest) -> int:
    # Comparable as integers since Kubernetes 1.35 says so, and in practice since ever.
    return int(raw["metadata"]["resourceVersion"])
