"""What differs between two revisions: fields of their specs, or the pod templates; pure."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from modelyard_cli.errors import RevisionError
from modelyard_cli.history import Record, find_record
from modelyard_cli.view import View

CONTEXT_LINES: Final = 3
ABSENT: Final = object()


@dataclass(frozen=True)
class Change:
    """One field that differs.

    Attributes:
        path: Where, such as ``model.uri`` or ``runtime.env[0].value``.
        old: Its value in the first revision; ABSENT where it has none.
        new: Its value in the second.
    """

    path: str
    old: Any
    new: Any

    def to_document(self) -> dict[str, Any]:
        """Return the same for machines; a value that is absent has no key."""
        values = {"path": self.path, "old": self.old, "new": self.new}
        return {key: value for key, value in values.items() if value is not ABSENT}


def choose_pair(
    records: Sequence[Record], view: View, words: Sequence[str]
) -> tuple[Record, Record]:
    """Return which two revisions are compared.

    Nothing named: stable with the candidate, else the one before with stable. One named: that one
    with stable.

    Args:
        records: All of them, newest first.
        view: The ModelDeployment.
        words: What was typed: none, one or two revisions.

    Raises:
        RevisionError: One of them is not on record, or there are not two.
    """
    named = [find_record(records, word) for word in words]
    if len(named) == 2:  # noqa: PLR2004 - from and to
        return named[0], named[1]
    stable = next((one for one in records if one.name == view.stable), None)
    if named and stable:
        first, second = sorted((named[0], stable), key=lambda record: record.number)
        return first, second
    candidate = next((one for one in records if one.name == view.candidate), None)
    if stable and candidate:
        return stable, candidate
    before = [one for one in records if stable and one.number < stable.number]
    if stable and before:
        return before[0], stable
    raise RevisionError(
        f"{view.name} has {len(records)} revision on record, and it takes two to differ",
        hint="edit the spec: what changes the pods makes a new revision",
    )


def content(record: Record, *, template: bool) -> dict[str, Any]:
    """Return what is compared: the serving fields and the files, or the whole pod template."""
    files = {"files": record.files} if record.files else {}
    return {**(record.template if template else record.serving), **files}


def changes(old: Any, new: Any, path: str = "") -> Iterator[Change]:
    """Yield every leaf that differs, in the order of the first document."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{path}.{key}" if path else str(key)
            yield from changes(old.get(key, ABSENT), new.get(key, ABSENT), inner)
    elif isinstance(old, list) and isinstance(new, list):
        for at in range(max(len(old), len(new))):
            left = old[at] if at < len(old) else ABSENT
            right = new[at] if at < len(new) else ABSENT
            yield from changes(left, right, f"{path}[{at}]")
    elif old != new:
        yield Change(path, old, new)


def unified(first: Record, second: Record, *, template: bool = False) -> list[str]:
    """Return a unified diff of two revisions as YAML; empty when nothing differs.

    Args:
        first: The older one.
        second: The newer one.
        template: Compare the pod templates instead of the spec's fields.
    """
    old, new = (_lines(content(record, template=template)) for record in (first, second))
    return list(
        difflib.unified_diff(
            old,
            new,
            f"{first.name} (version {first.version})",
            f"{second.name} (version {second.version})",
            n=CONTEXT_LINES,
            lineterm="",
        )
    )


class _Readable(yaml.SafeDumper):
    """Texts of several lines stay several lines, so that a file is compared line by line."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, "|" if "\n" in value else None)


_Readable.add_representer(str, _text)


def _lines(document: Mapping[str, Any]) -> list[str]:
    return yaml.dump(document, Dumper=_Readable, width=1000).splitlines()
