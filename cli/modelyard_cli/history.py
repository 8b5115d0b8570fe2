"""The revisions of a ModelDeployment: what each served, and what became of it; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelyard_cli.errors import RevisionError
from modelyard_cli.view import Manifest, View

MIN_HASH = 3
"""Fewer characters of a hash than these are more likely a slip than an abbreviation."""


@dataclass(frozen=True)
class Record:
    """One revision on record.

    Attributes:
        name: ``<model deployment>-<hash8>``.
        number: Counts the revisions, oldest first.
        version: Version of the model.
        uri: Where its artifact lies.
        created: When it was first asked for, RFC 3339.
        serving: The serving fields of its spec; fields at their defaults are absent.
        template: Its pod template.
        files: Contents of its files, by name.
    """

    name: str
    number: int
    version: str
    uri: str
    created: datetime | None
    serving: dict[str, Any] = field(default_factory=dict)
    template: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def model_name(self) -> str:
        """The name that requests carry; empty for that of the ModelDeployment."""
        return str((self.serving.get("model") or {}).get("name") or "")


def parse_records(manifests: Iterable[Manifest]) -> list[Record]:
    """Read ControllerRevisions, newest first."""
    return sorted(map(_record, manifests), key=lambda record: record.number, reverse=True)


def _record(manifest: Manifest) -> Record:
    metadata, data = manifest["metadata"], manifest.get("data") or {}
    serving = data.get("serving") or {}
    created = metadata.get("creationTimestamp")
    return Record(
        name=metadata["name"],
        number=manifest.get("revision", 0),
        version=str(data.get("version", "")),
        uri=str((serving.get("model") or {}).get("uri", "")),
        created=datetime.fromisoformat(created) if created else None,
        serving=serving,
        template=data.get("template") or {},
        files=data.get("files") or {},
    )


def fate(record: Record, view: View) -> str:
    """Say what became of a revision, in a few words.

    Args:
        record: The revision.
        view: The ModelDeployment.
    """
    rollout, candidate = view.rollout, view.status.candidate
    if record.name == view.stable:
        return "stable, on probation" if rollout.state == "Probation" else "stable"
    if candidate and record.name == candidate.revision:
        return f"candidate at {candidate.weight} %"
    if record.name == rollout.previous:
        return "previous, kept warm"
    last = rollout.last_rollback
    if last and last.revision == record.name:
        return f"rejected: {last.reason}" if last.reason else "rejected"
    if record.name in rollout.rejected:
        return "rejected"
    return "promoted earlier" if record.name in {*rollout.promoted, rollout.fallback} else "retired"


def find_record(records: Sequence[Record], word: str) -> Record:
    """Return the revision that somebody means by its name, the start of its hash or its number.

    Args:
        records: All of them.
        word: What was typed.

    Raises:
        RevisionError: None of them, or several.
    """
    found = [record for record in records if word in {record.name, str(record.number)}]
    if not found and len(word) >= MIN_HASH:
        found = [one for one in records if one.name.rpartition("-")[2].startswith(word)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{record.number} {record.name}" for record in records) or "none"
    what = "names several revisions" if found else "names no revision on record"
    raise RevisionError(f"{word} {what}; there are: {known}")


def to_documents(records: Iterable[Record], view: View) -> list[dict[str, Any]]:
    """Return the history for machines."""
    return [
        {
            "revision": record.name,
            "number": record.number,
            "version": record.version,
            "uri": record.uri,
            "created": record.created.isoformat() if record.created else None,
            "fate": fate(record, view),
        }
        for record in records
    ]
