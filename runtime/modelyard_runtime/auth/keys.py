"""The folder of keys: one file is one principal, ``jwks.json`` the key set for tokens."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

JWKS_FILE: Final = "jwks.json"
_HASHED: Final = re.compile(rb"sha256:([0-9a-fA-F]{64})")
_MAX_BYTES: Final = 1024 * 1024
_RACY_NS: Final = 2_000_000_000
"""A file written this recently may be written again within the same tick of its clock."""

_log = structlog.stdlib.get_logger(__name__)


class KeysFolder:
    """The keys as they were at the last look.

    Only hashes are kept, and all of them are compared with whatever is presented: neither what is
    found nor where says how long a look takes.

    Args:
        path: The folder; None holds no keys.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: object = None
        self._keys: tuple[tuple[str, bytes], ...] = ()
        self._followers: list[Callable[[], None]] = []
        self.jwks: bytes | None = None
        """Content of ``jwks.json``; None when there is none."""

    def __len__(self) -> int:
        return len(self._keys)

    def follow(self, follower: Callable[[], None]) -> None:
        """Tell a part of the process of every change.

        Args:
            follower: Called by ``poll``.
        """
        self._followers.append(follower)

    def principal(self, key: str) -> str | None:
        """Find whose key this is.

        Args:
            key: As the caller presents it.

        Returns:
            The principal; None when it is nobody's.
        """
        presented = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = None
        for principal, digest in self._keys:
            if hmac.compare_digest(digest, presented):
                found = principal
        return found

    def poll(self) -> None:
        """Read the folder if anything in it has changed.

        A folder that cannot be read, or is gone (its Secret may be optional), holds no keys: a key
        that has been taken away must not open anything.
        """
        if self._path is None:
            return
        try:
            signature = self._signature(self._path)
        except OSError as error:
            signature = {str(error): 0}
        if signature is not None and signature == self._seen:
            return
        contents = self._contents(self._path)
        jwks = contents.pop(JWKS_FILE, None)
        keys = tuple(
            (name, digest)
            for name, content in sorted(contents.items())
            if (digest := _digest(name, content)) is not None
        )
        self._seen = signature
        if (keys, jwks) == (self._keys, self.jwks):
            return
        _warn_of_twins(keys)
        self._keys, self.jwks = keys, jwks
        _log.info("keys read", principals=len(keys), jwks=jwks is not None)
        for follower in self._followers:
            follower()

    @staticmethod
    def _signature(folder: Path) -> dict[str, object] | None:
        """Describe the files without reading them; None when that cannot be relied on."""
        signature: dict[str, object] = {}
        newest = 0
        for path in folder.iterdir():
            if path.name.startswith("."):
                continue
            stat = path.stat()
            signature[path.name] = (stat.st_ino, stat.st_dev, stat.st_size, stat.st_mtime_ns)
            newest = max(newest, stat.st_mtime_ns)
        return signature if abs(time.time_ns() - newest) > _RACY_NS else None

    @staticmethod
    def _contents(folder: Path) -> dict[str, bytes]:
        contents: dict[str, bytes] = {}
        try:
            for path in folder.iterdir():
                # The kubelet's own links begin with two dots.
                if not path.name.startswith(".") and path.is_file():
                    with path.open("rb") as file:
                        contents[path.name] = file.read(_MAX_BYTES)
        except OSError as error:
            _log.warning("keys cannot be read, there are none", problem=str(error))
            return {}
        return contents


def _digest(name: str, content: bytes) -> bytes | None:
    """Hash a key, or take its hash as it is written."""
    key = content.strip()
    if hashed := _HASHED.fullmatch(key):
        return bytes.fromhex(hashed[1].decode())
    if not key or key.startswith(b"sha256:"):
        _log.warning("a key is ignored, it is empty or no hash", principal=name)
        return None
    return hashlib.sha256(key).digest()


def _warn_of_twins(keys: tuple[tuple[str, bytes], ...]) -> None:
    owners: dict[bytes, str] = {}
    for principal, digest in keys:
        other = owners.setdefault(digest, principal)
        if other != principal:
            _log.warning("two principals have the same key", principal=principal, other=other)
