"""JSON Web Tokens: signature, issuer, audience and time."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final

import jwt
import jwt.exceptions
from cachetools import TLRUCache

from modelyard_runtime.errors import UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelyard_runtime.auth.key_sets import KeySet
    from modelyard_runtime.directives import AuthDirective

_LEEWAY_S: Final = 30
_MAX_CHARS: Final = 16 * 1024
_MAX_PRINCIPAL: Final = 256
_CACHED: Final = 4096
_CACHED_S: Final = 300.0
"""Longest time a verified token is believed: a key that its issuer withdraws counts no longer."""
_WORDS: Final[Mapping[type[jwt.PyJWTError], str]] = {
    jwt.ExpiredSignatureError: "the token has expired",
    jwt.ImmatureSignatureError: "the token does not hold yet",
    jwt.InvalidIssuerError: "the token is of another issuer",
    jwt.InvalidAudienceError: "the token is not meant for this service",
    jwt.MissingRequiredClaimError: "the token lacks one of the claims exp, iss, sub and aud",
    jwt.exceptions.InvalidSubjectError: "the token's subject is not a string",
}


class TokenVerifier:
    """Tells who a token speaks for.

    Args:
        directive: The issuer and the audiences.
        keys: Where the issuer's keys are.
        clock: Gives the time in seconds since the epoch, for what is remembered.
    """

    def __init__(
        self, directive: AuthDirective, keys: KeySet, clock: Callable[[], float] = time.time
    ) -> None:
        self._issuer = directive.issuer
        self._audiences = directive.audiences
        self._keys = keys
        # Keyed by hashes: a dump of the process shows no token that still holds.
        self._verified: TLRUCache[bytes, tuple[str, float]] = TLRUCache(
            _CACHED, ttu=lambda _, found, now: min(found[1], now + _CACHED_S), timer=clock
        )

    async def principal(self, token: str) -> str:
        """Verify a token.

        Args:
            token: As the caller presents it.

        Returns:
            Its subject.

        Raises:
            UnauthorizedError: It does not hold; the message says why, and nothing of the token.
        """
        if len(token) > _MAX_CHARS:
            raise _refused("the token is too long")
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = self._verified.get(digest)
        if found is None:
            found = self._verified[digest] = await self._verify(token)
        return found[0]

    async def _verify(self, token: str) -> tuple[str, float]:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise _refused("the token is no JSON Web Token") from None
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)):
            raise _refused("the token is no JSON Web Token")
        key = await self._keys.find(kid, algorithm)
        if key is None:
            raise _refused("no key of the issuer fits the token")
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audiences or None,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise _refused(_WORDS.get(type(error), "the token's signature does not hold")) from None
        subject: str = claims["sub"]
        if not 0 < len(subject) <= _MAX_PRINCIPAL:
            raise _refused("the token's subject is empty or too long")
        return subject, int(claims["exp"]) + _LEEWAY_S


def _refused(message: str) -> UnauthorizedError:
    return UnauthorizedError(message, challenge='Bearer error="invalid_token"')
