"""The certificate that HTTP and gRPC show; read again when its files change."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from modelyard_runtime.errors import Reason, StartupError

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard_runtime.settings import RuntimeSettings

POLL_S: Final = 1.0

_log = structlog.stdlib.get_logger(__name__)


class Pair(NamedTuple):
    """A private key and the certificates that belong to it, as PEM."""

    key: bytes
    certificates: bytes


class Certificates:
    """A certificate and its key.

    Connections that are open stay as they are; those that come get what was last read. Files that do
    not belong together, or are no PEM, change nothing.

    Args:
        cert_file: PEM file, the server's own certificate first.
        key_file: PEM file.

    Raises:
        StartupError: ``InvalidSettings``: the files cannot be used.
    """

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._cert_file = cert_file
        self._key_file = key_file
        self._problem = ""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        """For servers that take Python's TLS; what is read later is put into it."""
        try:
            self.pair = self._read()
            self._load(self.context)
        except OSError as error:  # of which ssl.SSLError is one
            raise StartupError(
                Reason.INVALID_SETTINGS,
                f"MODELYARD_TLS_CERT_FILE, MODELYARD_TLS_KEY_FILE: {error}",
                hint="Both must be PEM files that belong together, the key without a password.",
            ) from error

    def poll(self) -> None:
        """Read the files if they have changed."""
        try:
            found = self._read()
            if found == self.pair:
                return
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            if self._read() != found:  # they are being written; the next look will tell
                return
            self._load(self.context)
        except OSError as error:
            if str(error) != self._problem:
                _log.error("certificate cannot be used, the last one stays", problem=str(error))
            self._problem = str(error)
            return
        self.pair, self._problem = found, ""
        _log.info("certificate read", path=str(self._cert_file))

    async def watch(self) -> None:
        """Look at the files for ever."""
        while True:
            await asyncio.sleep(POLL_S)
            self.poll()

    def _read(self) -> Pair:
        return Pair(self._key_file.read_bytes(), self._cert_file.read_bytes())

    def _load(self, context: ssl.SSLContext) -> None:
        # An empty password: the library would ask for one at the terminal.
        context.load_cert_chain(self._cert_file, self._key_file, password="")


def certificates_of(settings: RuntimeSettings) -> Certificates | None:
    """Read the certificate that the settings name.

    Args:
        settings: The environment.

    Returns:
        The certificate; None: no TLS is spoken.

    Raises:
        StartupError: ``InvalidSettings``: the files cannot be used.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return Certificates(settings.tls_cert_file, settings.tls_key_file)
