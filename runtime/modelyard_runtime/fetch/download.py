"""Files → the model repository: resumed, verified, and visible only when complete."""

from __future__ import annotations

import errno
import hashlib
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
import structlog

from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.fetch.sources import ChangedError, ClaimSource
from modelyard_runtime.lifecycle import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from modelyard_runtime.fetch.sources import RemoteFile, Source
    from modelyard_runtime.lifecycle import Lifecycle

T = TypeVar("T")

_log = structlog.stdlib.get_logger(__name__)

_PARALLEL: Final = 4
_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch leaves behind.

    Attributes:
        digest: ``sha256:<hex>`` as the contract defines it.
        size: All files together, in bytes.
        files: How many.
    """

    digest: str
    size: int
    files: int


class Progress:
    """How far the download is; written by the download's threads, read by ``/status``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0
        self.done = 0

    def add(self, size: int) -> None:
        """Count bytes.

        Args:
            size: May be negative, when a part is thrown away.
        """
        with self._lock:
            self.done += size

    def as_document(self) -> dict[str, int]:
        """Return ``download`` of the status document.

        Returns:
            ``bytesTotal`` and ``bytesDownloaded``.
        """
        return {"bytesTotal": self.total, "bytesDownloaded": self.done}


class Download:
    """One model's way into the repository.

    Args:
        source: Where it comes from.
        folder: ``<repository>/<name>``; the model appears in its subfolder ``1``.
        lifecycle: Moved on to ``VERIFYING``.
        progress: Counted up.
        sleep: Waits between attempts.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        *,
        lifecycle: Lifecycle,
        progress: Progress,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._source = source
        self._target = folder / "1"
        self._staging = folder / ".fetching"
        self._lifecycle = lifecycle
        self._progress = progress
        self._sleep = sleep

    def run(self, digest: str | None) -> Fetched:
        """Fetch and verify the model; a second run after a success only verifies.

        Args:
            digest: What the bytes must add up to; None accepts any.

        Returns:
            What is there now.

        Raises:
            StartupError: With the reason of the contract. Nothing is then visible in ``1``, but
                parts stay for the next attempt, unless they are wrong.
        """
        if self._target.exists():
            return self._verify(self._target, digest)
        try:
            if isinstance(self._source, ClaimSource):
                return self._link(self._source, digest)
            files = self._retried(self._source.list_files)
            self._progress.total = sum(file.size for file in files)
            self._prepare(files)
            with ThreadPoolExecutor(_PARALLEL, "download") as pool:
                list(pool.map(self._download, files))
            fetched = self._verify(self._staging, digest)
            self._staging.rename(self._target)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise StartupError(
                    Reason.INSUFFICIENT_STORAGE,
                    f"the model folder is full ({self._progress.total} bytes are needed)",
                    hint="Raise the ephemeral storage limit or the folder's size limit.",
                ) from error
            raise
        return fetched

    def _link(self, source: ClaimSource, digest: str | None) -> Fetched:
        """Point into the claim; a selection of its files becomes a folder of links."""
        files = source.list_files()
        self._progress.total = self._progress.done = sum(file.size for file in files)
        if self._staging.is_symlink():
            self._staging.unlink()
        shutil.rmtree(self._staging, ignore_errors=True)
        if source.whole:
            self._staging.symlink_to(source.root, target_is_directory=True)
        else:
            for file in files:
                link = self._staging / file.path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.key)
        fetched = self._verify(self._staging, digest)
        self._staging.rename(self._target)
        return fetched

    def _prepare(self, files: list[RemoteFile]) -> None:
        """Keep the parts of an earlier attempt that still belong to the same remote files."""
        wanted = {file.path: {"etag": file.etag, "size": file.size} for file in files}
        note = self._staging.with_name(".fetching.json")
        before = _read_note(note)
        for path in [p for p in self._staging.rglob("*") if p.is_file()]:
            name = path.relative_to(self._staging).as_posix()
            # Without a fingerprint nobody can tell whether the rest fits to the part.
            same = name in wanted and before.get(name) == wanted[name] and wanted[name]["etag"]
            if not same:
                path.unlink()
        self._staging.mkdir(parents=True, exist_ok=True)
        note.write_bytes(orjson.dumps(wanted))

    def _download(self, file: RemoteFile) -> None:
        path = self._staging / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        have = path.stat().st_size if path.exists() else 0
        if have > file.size:
            path.unlink()
            have = 0
        self._progress.add(have)
        if have:
            _log.info("resuming", file=file.path, offset=have, size=file.size)
        self._retried(lambda: self._append(file, path))

    def _append(self, file: RemoteFile, path: Path) -> None:
        offset = path.stat().st_size if path.exists() else 0
        if offset == file.size and path.exists():
            return
        try:
            with path.open("ab") as out:
                for chunk in self._source.read(file, offset):
                    out.write(chunk)
                    self._progress.add(len(chunk))
        except ChangedError as error:
            self._progress.add(-path.stat().st_size)
            path.unlink()
            raise StartupError(
                Reason.SOURCE_UNREACHABLE,
                f"{file.path} changed while it was read, or cannot be resumed",
                hint="Publish each version under a name of its own.",
                retryable=True,
            ) from error
        size = path.stat().st_size
        if size != file.size:
            raise StartupError(
                Reason.SOURCE_UNREACHABLE,
                f"{file.path} ended after {size} of {file.size} bytes",
                retryable=True,
            )

    def _retried(self, call: Callable[[], T]) -> T:
        """Repeat what may pass; what was read so far is kept between attempts."""
        for wait_s in _BACKOFF_S:
            try:
                return call()
            except StartupError as error:
                if not error.retryable:
                    raise
                _log.warning("will retry", problem=error.message, wait_seconds=wait_s)
                self._sleep(wait_s)
        return call()

    def _verify(self, folder: Path, digest: str | None) -> Fetched:
        self._lifecycle.advance(State.VERIFYING)
        fetched = measure(folder)
        self._progress.total = self._progress.done = fetched.size
        if digest is not None and digest != fetched.digest:
            if folder == self._staging and not folder.is_symlink():
                shutil.rmtree(folder)  # wrong bytes are no part to resume from
            raise StartupError(
                Reason.DIGEST_MISMATCH,
                f"the files have {fetched.digest}, spec.model.digest is {digest}",
                hint="The artifact was replaced, or the digest belongs to another version.",
            )
        return fetched


def measure(folder: Path) -> Fetched:
    """Hash a model's folder as the contract says.

    Args:
        folder: The folder; links in it are followed.

    Returns:
        For one file its SHA-256, for several the SHA-256 of their sorted ``sha256sum`` lines.
    """
    paths = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    sums = {name: _sha256(path) for name, path in paths.items()}
    if len(sums) == 1:
        total = next(iter(sums.values()))
    else:
        lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
        total = hashlib.sha256(lines.encode()).hexdigest()
    size = sum(path.stat().st_size for path in paths.values())
    return Fetched(f"sha256:{total}", size, len(paths))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_note(path: Path) -> Mapping[str, Any]:
    try:
        note = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return note if isinstance(note, dict) else {}
