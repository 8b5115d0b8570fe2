"""Where an issuer's public keys come from: a file, or its JWKS endpoint."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import jwt
import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = structlog.stdlib.get_logger(__name__)

_ALGORITHMS: Final[Mapping[str, frozenset[str]]] = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC": frozenset({"ES256", "ES384", "ES512"}),
    "OKP": frozenset({"EdDSA"}),
}
"""What a key of each type may sign with. Shared secrets are none of it, and neither is "none"."""
_FRESH_S: Final = 300.0
_COOLDOWN_S: Final = 30.0
"""Callers that invent key ids must not make us ask the issuer more often than this."""
_RETRY_S: Final = 5.0
_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key that tokens may be signed with.

    Attributes:
        kid: Its id; None when the set does not name it.
        algorithms: What it may sign with.
        key: What the library takes.
    """

    kid: str | None
    algorithms: frozenset[str]
    key: Any


class KeySet(Protocol):
    """Finds the key of a token."""

    async def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """Find a key.

        Args:
            kid: The key's id in the token's header.
            algorithm: The algorithm in the token's header.

        Returns:
            The key; None when there is none.
        """
        ...  # pragma: no cover


def parse_keys(document: object) -> tuple[PublicKey, ...]:
    """Read a JSON Web Key Set.

    Args:
        document: The parsed JSON.

    Returns:
        The keys that can verify a signature; others are left out.

    Raises:
        ValueError: It is no key set, or no key of it is of use.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it has no array 'keys'")  # noqa: TRY004 - content, not a call's argument
    keys = tuple(key for entry in entries if (key := _parse_key(entry)) is not None)
    if not keys:
        raise ValueError(f"none of its {len(entries)} keys is public and for signatures")
    return keys


def select(keys: tuple[PublicKey, ...], kid: str | None, algorithm: str) -> PublicKey | None:
    """Choose the key of a token.

    Args:
        keys: The issuer's.
        kid: As in the token; without one, the only key that fits is taken.
        algorithm: As in the token.

    Returns:
        The key; None when none or more than one fits.
    """
    fitting = [
        key for key in keys if algorithm in key.algorithms and (kid is None or key.kid == kid)
    ]
    return fitting[0] if len(fitting) == 1 else None


class LocalKeys:
    """The key set in the folder of keys.

    Args:
        content: The file's; None when there is no file.
    """

    def __init__(self, content: bytes | None) -> None:
        self._keys: tuple[PublicKey, ...] = ()
        if content is None:
            _log.warning("tokens are asked for, and there is no key set to verify them")
            return
        try:
            self._keys = parse_keys(orjson.loads(content))
        except ValueError as error:
            _log.error("the key set cannot be used, no token holds", problem=str(error))

    async def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """Find a key; see ``KeySet``.

        Args:
            kid: The key's id in the token's header.
            algorithm: The algorithm in the token's header.

        Returns:
            The key; None when there is none.
        """
        return select(self._keys, kid, algorithm)


class RemoteKeys:
    """The key set at the issuer's endpoint.

    It is fetched in a thread, once for all who wait. What has been fetched is used while newer keys
    are on their way, and as long as the endpoint does not answer.

    Args:
        uri: The endpoint.
        clock: Gives the time in seconds.
    """

    def __init__(self, uri: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = jwt.PyJWKClient(uri, cache_jwk_set=False, timeout=_TIMEOUT_S)
        self._clock = clock
        self._keys: tuple[PublicKey, ...] = ()
        self._fresh_until = self._again_at = clock()
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """Find a key; see ``KeySet``.

        Args:
            kid: The key's id in the token's header.
            algorithm: The algorithm in the token's header.

        Returns:
            The key; None when there is none.
        """
        now = self._clock()
        if now >= self._fresh_until and now >= self._again_at:
            self._fetch()
        key = select(self._keys, kid, algorithm)
        if key is not None:
            return key
        if now >= self._again_at:
            self._fetch()
        if self._fetching is None:
            return None
        # Shielded: a caller that leaves must not take the keys away from the others.
        await asyncio.shield(self._fetching)
        return select(self._keys, kid, algorithm)

    def close(self) -> None:
        """Stop fetching."""
        if self._fetching is not None:
            self._fetching.cancel()

    def _fetch(self) -> None:
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        try:
            self._keys = parse_keys(await asyncio.to_thread(self._client.fetch_data))
        except (jwt.PyJWTError, ValueError, OSError) as error:
            self._again_at = self._clock() + _RETRY_S
            _log.warning(
                "the key set cannot be fetched, the last one stays",
                uri=self._client.uri,
                problem=str(error)[:300],
            )
        else:
            now = self._clock()
            self._fresh_until, self._again_at = now + _FRESH_S, now + _COOLDOWN_S
        finally:
            self._fetching = None


def _parse_key(entry: object) -> PublicKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    algorithms = _ALGORITHMS.get(str(entry.get("kty")))
    if algorithms is None:
        return None
    try:
        key = jwt.PyJWK.from_dict(entry)
    except jwt.PyJWTError:
        return None
    if "alg" in entry or entry["kty"] != "RSA":
        algorithms &= {key.algorithm_name}
    return PublicKey(key.key_id, algorithms, key.key) if algorithms else None
