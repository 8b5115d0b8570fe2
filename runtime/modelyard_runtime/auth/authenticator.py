"""The gate: names who asks, by a key or a token, as the directives say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from modelyard_runtime.errors import ForbiddenError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.auth.keys import KeysFolder
    from modelyard_runtime.auth.tokens import TokenVerifier
    from modelyard_runtime.directives import AuthDirective, Directives

    Header = Callable[[str], str | None]

POLL_S: Final = 0.5
"""How often the folder of keys is looked at: changes count within a second."""

_log = structlog.stdlib.get_logger(__name__)


class Authenticator:
    """Tells who asks.

    Args:
        keys: The keys, and the key set for tokens.
    """

    def __init__(self, keys: KeysFolder) -> None:
        self._keys = keys
        self._directive: AuthDirective | None = None
        self._verifier: TokenVerifier | None = None
        self._close: Callable[[], None] | None = None
        self.required = False
        """Whether anybody has to say who it is."""
        keys.follow(self._on_keys)

    def apply(self, directives: Directives) -> None:
        """Ask for what the directives want from now on.

        Args:
            directives: The current ones.
        """
        if directives.auth == self._directive:
            return
        self._directive = directives.auth
        self._renew()

    async def principal(self, header: Header) -> str:
        """Name the caller.

        Args:
            header: Looks a request header (gRPC: metadata) up by its lower-case name.

        Returns:
            The principal; empty where nobody has to say who it is.

        Raises:
            UnauthorizedError: There are no credentials, or the token does not hold.
            ForbiddenError: The key is nobody's.
        """
        if not self.required:
            return ""
        presented = _credentials(header("authorization"))
        if self._verifier is not None:
            if presented is None:
                raise UnauthorizedError("a token is required: 'Authorization: Bearer …'")
            return await self._verifier.principal(presented)
        if presented is None:
            presented = header("x-api-key")
        if not presented:
            raise UnauthorizedError(
                "a key is required: 'Authorization: Bearer …' or 'X-API-Key: …'"
            )
        found = self._keys.principal(presented)
        if found is None:
            raise ForbiddenError("the key is not one of those that may come in")
        return found

    async def watch(self) -> None:
        """Look at the folder of keys for ever."""
        while True:
            try:
                self._keys.poll()
            except Exception:  # noqa: BLE001 - the task's root: the next look may succeed
                _log.exception("keys could not be followed")
            await asyncio.sleep(POLL_S)

    def close(self) -> None:
        """Stop fetching keys."""
        if self._close is not None:
            self._close()
            self._close = None

    def _on_keys(self) -> None:
        directive = self._directive
        if directive is not None and directive.type == "JWT" and directive.jwks_uri is None:
            self._renew()

    def _renew(self) -> None:
        self.close()
        directive = self._directive
        self.required = directive is not None and directive.type != "None"
        self._verifier = None
        if directive is None or directive.type != "JWT":
            return
        # Not imported where nobody uses tokens: cryptography takes memory and start-up time.
        from modelyard_runtime.auth.key_sets import LocalKeys, RemoteKeys  # noqa: PLC0415
        from modelyard_runtime.auth.tokens import TokenVerifier  # noqa: PLC0415

        if directive.jwks_uri is None:
            self._verifier = TokenVerifier(directive, LocalKeys(self._keys.jwks))
            return
        remote = RemoteKeys(directive.jwks_uri)
        self._close = remote.close
        self._verifier = TokenVerifier(directive, remote)


def _credentials(authorization: str | None) -> str | None:
    """Return what follows ``Bearer``, whatever its case; None for other schemes."""
    if authorization is None:
        return None
    scheme, _, value = authorization.partition(" ")
    return value.strip() or None if scheme.lower() == "bearer" else None
