"""What an image is built from, as one digest: the same inputs need no second build."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localcluster.errors import LocalClusterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

COPY: Final = re.compile(r"^\s*(?:COPY|ADD)\s+(.+)$", re.IGNORECASE)
NOISE: Final = {"__pycache__", ".git"}


def digest(
    dockerfile: Path, context: Path, build_args: Mapping[str, str], extra: Iterable[str] = ()
) -> str:
    """Return the digest of all that decides what a build yields.

    Args:
        dockerfile: The Dockerfile.
        context: The folder whose files it copies.
        build_args: Build arguments.
        extra: Further words that matter, such as the target stage.

    Returns:
        64 hexadecimal digits.

    Raises:
        LocalClusterError: The Dockerfile cannot be read.
    """
    try:
        text = dockerfile.read_text(encoding="utf-8")
    except OSError as error:
        raise LocalClusterError(f"cannot read {dockerfile}: {error.strerror}") from error
    total = hashlib.sha256(repr((text, sorted(build_args.items()), list(extra))).encode())
    for path in sorted(_files(context, copied_sources(text), _ignore_rules(context, dockerfile))):
        relative = path.relative_to(context).as_posix()
        mode = "link" if path.is_symlink() else "run" if os.access(path, os.X_OK) else "file"
        total.update(f"\0{relative}\0{mode}\0".encode())
        if path.is_symlink():
            total.update(str(path.readlink()).encode())
        else:
            with path.open("rb") as content:
                total.update(hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()


def copied_sources(dockerfile: str) -> list[str]:
    """Return the context paths and patterns that a Dockerfile copies."""
    joined = re.sub(r"\\[ \t]*\n", " ", dockerfile)
    sources: list[str] = []
    for line in joined.splitlines():
        match = COPY.match(line)
        if match is None:
            continue
        # `["a", "b"]` and `a b` split alike once the brackets and commas are spaces.
        words = shlex.split(re.sub(r'^\[|\]$|(?<="),', " ", match[1].strip()))
        flags = [word for word in words if word.startswith("--")]
        if not any(flag.startswith("--from=") for flag in flags):
            sources.extend(word for word in words[len(flags) : -1] if "://" not in word)
    return sources


def _files(context: Path, sources: list[str], ignore: list[tuple[bool, str]]) -> Iterator[Path]:
    for source in set(sources):
        # A build argument in a path: take the folder above it, which holds every candidate.
        plain = source.partition("$")[0].strip("/") or "."
        if plain == ".":
            yield from _walk(context, context, ignore)
            continue
        for match in context.glob(plain):
            if match.is_dir() and not match.is_symlink():
                yield from _walk(match, context, ignore)
            elif not _is_ignored(match.relative_to(context).as_posix(), ignore):
                yield match


def _walk(folder: Path, context: Path, ignore: list[tuple[bool, str]]) -> Iterator[Path]:
    has_exceptions = any(not ignored for ignored, _ in ignore)
    for name_of_parent, folders, files in os.walk(folder):
        parent = Path(name_of_parent)
        relative = parent.relative_to(context)
        folders[:] = [
            name
            for name in folders
            if name not in NOISE
            and (has_exceptions or not _is_ignored((relative / name).as_posix(), ignore))
        ]
        for name in files:
            if not _is_ignored((relative / name).as_posix(), ignore):
                yield parent / name


def _ignore_rules(context: Path, dockerfile: Path) -> list[tuple[bool, str]]:
    """Return (ignored, pattern) of each line of the .dockerignore, in order."""
    for file in (
        dockerfile.with_name(f"{dockerfile.name}.dockerignore"),
        context / ".dockerignore",
    ):
        if file.exists():
            lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
            return [
                (not line.startswith("!"), line.lstrip("!").strip("/"))
                for line in lines
                if line and not line.startswith("#")
            ]
    return []


def _is_ignored(path: str, rules: list[tuple[bool, str]]) -> bool:
    """Apply the rules in order, the last that matches the path or a folder above it counts."""
    ignored = False
    parts = path.split("/")
    above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    for value, pattern in rules:
        forms = (pattern, pattern.removeprefix("**/"))
        if any(fnmatch.fnmatchcase(part, form) for part in above for form in forms):
            ignored = value
    return ignored
