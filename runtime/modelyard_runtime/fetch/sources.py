"""Where models come from: what each URI scheme lists and how its bytes are read."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import obstore
from obstore.exceptions import BaseError, NotSupportedError, PreconditionError
from obstore.store import HTTPStore, S3Store

from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.fetch.store_errors import classify

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelyard_runtime.settings import FetchSettings

_CHUNK_BYTES: Final = 2**18
"""What is lost at most when a transfer breaks; large enough to be cheap."""
_RETRY: Final[Any] = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
}


class ChangedError(Exception):
    """The object is no longer the one of which a part has been read."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a model.

    Attributes:
        path: Relative POSIX path in the model's folder.
        key: What the source calls it.
        size: In bytes.
        etag: The source's fingerprint; None when it gives none.
    """

    path: str
    key: str
    size: int
    etag: str | None


class Source(Protocol):
    """A place with files."""

    resolved_uri: str
    """The URI without anything secret."""

    def list_files(self) -> list[RemoteFile]:
        """List the model's files.

        Returns:
            At least one file.

        Raises:
            StartupError: The reasons of ``classify``.
        """
        ...  # pragma: no cover

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """Read a file from an offset.

        Args:
            file: A listed file.
            offset: First byte.

        Returns:
            Chunks.

        Raises:
            ChangedError: It is not the listed file any more, or cannot be read from there.
            StartupError: As ``list_files``.
        """
        ...  # pragma: no cover


def open_source(settings: FetchSettings) -> Source:
    """Choose the source for a URI.

    Args:
        settings: The environment.

    Returns:
        The source; nothing has been read from it.

    Raises:
        StartupError: ``UnsupportedURIScheme``, or ``InvalidSettings`` for a URI without a host.
    """
    parts = urlsplit(settings.model_uri)
    if parts.scheme == "pvc":
        return ClaimSource(settings)
    if parts.scheme not in {"s3", "http", "https"}:
        raise StartupError(
            Reason.UNSUPPORTED_URI_SCHEME,
            f"there is no loader for {parts.scheme or 'a URI without a scheme'!r}",
            hint="Use s3://, http://, https:// or pvc://.",
        )
    if not parts.hostname:
        raise StartupError(Reason.INVALID_SETTINGS, "the model URI names no host or bucket")
    return S3Source(settings) if parts.scheme == "s3" else HttpSource(settings)


class S3Source:
    """``s3://bucket/prefix``: one object, or every object below a prefix.

    Args:
        settings: The environment; credentials come from ``AWS_*`` or the pod's identity.
    """

    def __init__(self, settings: FetchSettings) -> None:
        bucket, prefix = _split(settings.model_uri)
        self.resolved_uri = f"s3://{bucket}/{prefix}"
        self._prefix = prefix
        self._patterns = settings.include_patterns
        config: dict[str, Any] = {}
        if settings.endpoint_url:
            config["endpoint"] = settings.endpoint_url
            config["virtual_hosted_style_request"] = False
        self._store = S3Store(
            bucket,
            client_options=_client_options(settings, settings.endpoint_url or "https"),
            retry_config=_RETRY,
            **config,
        )

    def list_files(self) -> list[RemoteFile]:
        """List the object of that key, or the objects below it."""
        try:
            metas = [m for page in obstore.list(self._store, self._prefix or None) for m in page]
            if not metas and self._prefix:
                metas = [obstore.head(self._store, self._prefix)]
        except (BaseError, OSError) as error:
            raise classify(error, self.resolved_uri) from error
        files = []
        for meta in metas:
            key = meta["path"]
            path = key.removeprefix(self._prefix).lstrip("/") or PurePosixPath(key).name
            if meta["size"] or not key.endswith("/"):
                files.append(RemoteFile(path, key, meta["size"], meta["e_tag"]))
        return checked(select(files, self._patterns), self.resolved_uri)

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """Read an object, as long as it is still the listed one."""
        return _stream(self._store, file.key, file, offset, self.resolved_uri)


class HttpSource:
    """``http(s)://…``: one file. The query (a pre-signed URL's secret) is never shown.

    Args:
        settings: The environment.
    """

    def __init__(self, settings: FetchSettings) -> None:
        parts = urlsplit(settings.model_uri)
        self.resolved_uri = urlunsplit((parts.scheme, parts.hostname or "", parts.path, "", ""))
        if parts.port:
            self.resolved_uri = urlunsplit(
                (parts.scheme, f"{parts.hostname}:{parts.port}", parts.path, "", "")
            )
        self._name = PurePosixPath(parts.path).name
        self._store = HTTPStore(
            settings.model_uri,
            client_options=_client_options(settings, settings.model_uri),
            retry_config=_RETRY,
        )

    def list_files(self) -> list[RemoteFile]:
        """Ask for the file and read its head only; pre-signed URLs allow GET and not HEAD."""
        if not self._name:
            raise StartupError(
                Reason.ARTIFACT_NOT_FOUND,
                f"{self.resolved_uri} names no file",
                hint="Over HTTP a model is one file; use s3:// or pvc:// for folders.",
            )
        try:
            meta = obstore.get(self._store, "").meta
        except (BaseError, OSError) as error:
            raise classify(error, self.resolved_uri) from error
        return checked([RemoteFile(self._name, "", meta["size"], meta["e_tag"])], self.resolved_uri)

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """Read the file, as long as it is still the listed one."""
        return _stream(self._store, "", file, offset, self.resolved_uri)


class ClaimSource:
    """``pvc://claim/path``: files that are already mounted.

    Args:
        settings: The environment.
    """

    def __init__(self, settings: FetchSettings) -> None:
        claim, path = _split(settings.model_uri)
        self.resolved_uri = f"pvc://{claim}/{path}"
        self._patterns = settings.include_patterns
        self._mount = settings.claim_path
        self.root = settings.claim_path / path

    @property
    def whole(self) -> bool:
        """Whether the model is the folder as it is, and not one file or a selection."""
        return self.root.is_dir() and not self._patterns

    def list_files(self) -> list[RemoteFile]:
        """List what the path holds; links that leave the claim are not followed."""
        mount = self._mount.resolve()
        root = self.root.resolve()
        if not root.is_relative_to(mount) or not root.exists():
            raise StartupError(
                Reason.ARTIFACT_NOT_FOUND,
                f"{self.resolved_uri} does not exist",
                hint="The path is below the claim's root.",
            )
        try:
            paths = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
            files = []
            for path in paths:
                if not path.resolve().is_relative_to(mount):
                    raise StartupError(
                        Reason.ARTIFACT_NOT_FOUND,
                        f"{path.name!r} in {self.resolved_uri} links out of the claim",
                    )
                name = path.name if path == root else path.relative_to(root).as_posix()
                files.append(RemoteFile(name, str(path), path.stat().st_size, None))
        except PermissionError as error:
            raise classify(error, self.resolved_uri) from error
        return checked(select(files, self._patterns), self.resolved_uri)

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """Read a mounted file."""
        with Path(file.key).open("rb") as stream:
            stream.seek(offset)
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk


def select(files: Iterable[RemoteFile], patterns: tuple[str, ...]) -> list[RemoteFile]:
    """Keep the files that a pattern names.

    Args:
        files: Candidates.
        patterns: Globs on the relative path, or on the name alone; empty keeps all.

    Returns:
        The files that stay.
    """
    return [
        file
        for file in files
        if not patterns
        or any(
            fnmatch.fnmatchcase(file.path, pattern)
            or fnmatch.fnmatchcase(PurePosixPath(file.path).name, pattern)
            for pattern in patterns
        )
    ]


def checked(files: list[RemoteFile], uri: str) -> list[RemoteFile]:
    """Refuse an empty listing, and names that would leave the model's folder.

    Args:
        files: What the source listed.
        uri: For the message.

    Returns:
        The same files, sorted by path.

    Raises:
        StartupError: ``ArtifactNotFound``.
    """
    if not files:
        raise StartupError(
            Reason.ARTIFACT_NOT_FOUND,
            f"no file at {uri}",
            hint="Check the bucket, the path and includePatterns.",
        )
    for file in files:
        parts = PurePosixPath(file.path).parts
        if not parts or file.path.startswith("/") or ".." in parts or "\0" in file.path:
            raise StartupError(
                Reason.ARTIFACT_NOT_FOUND, f"{uri} holds a file with the unsafe name {file.path!r}"
            )
    return sorted(files, key=lambda file: file.path)


def _stream(store: Any, key: str, file: RemoteFile, offset: int, uri: str) -> Iterator[bytes]:
    options: Any = {}
    if file.etag and not file.etag.startswith("W/"):
        options["if_match"] = file.etag
    if offset:
        options["range"] = {"offset": offset}
    try:
        answer = obstore.get(store, key, options=options)
        meta = answer.meta
        if meta["size"] != file.size or (file.etag and meta["e_tag"] not in {None, file.etag}):
            raise ChangedError(file.path)
        for chunk in answer.stream(min_chunk_size=_CHUNK_BYTES):
            yield bytes(chunk)
    except (PreconditionError, NotSupportedError) as error:  # replaced, or a server without ranges
        raise ChangedError(file.path) from error
    except (BaseError, OSError) as error:
        if "non-partial response" in str(error):
            raise ChangedError(file.path) from error
        raise classify(error, uri) from error


def _split(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    # Keys may hold '?' and '#': only the scheme and the first slash mean something here.
    rest = uri.partition("://")[2].partition("/")[2]
    return parts.netloc, rest.strip("/")


def _client_options(settings: FetchSettings, url: str) -> Any:
    options: dict[str, Any] = {
        "allow_http": url.startswith("http://"),
        "connect_timeout": timedelta(seconds=10),
        # A stalled transfer is an error; a long one is not.
        "read_timeout": timedelta(seconds=60),
        "timeout": timedelta(days=1),
    }
    if settings.ca_bundle is not None:
        options["root_certificate"] = settings.ca_bundle.read_bytes()
    return options
