"""Tokens of an issuer, the keys they are signed with, and requests that carry them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from modelyard_runtime.auth.authenticator import Authenticator
from modelyard_runtime.auth.keys import KeysFolder
from modelyard_runtime.directives import Directives

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RSA_KEY: Final = rsa.generate_private_key(65537, 2048)
OTHER_KEY: Final = rsa.generate_private_key(65537, 2048)
EC_KEY: Final = ec.generate_private_key(ec.SECP256R1())
ED_KEY: Final = ed25519.Ed25519PrivateKey.generate()
_ALGORITHMS: Final[dict[str, Any]] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def jwk(key: Any, algorithm: str, **more: str) -> dict[str, Any]:
    """Describe a public key as JSON."""
    document: dict[str, Any] = _ALGORITHMS[algorithm].to_jwk(key.public_key(), as_dict=True)
    return document | more


JWKS: Final = {
    "keys": [
        jwk(RSA_KEY, "RS256", kid="rsa"),
        jwk(EC_KEY, "ES256", kid="ec", use="sig"),
        jwk(ED_KEY, "EdDSA", kid="ed"),
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ"},
        jwk(OTHER_KEY, "RS256", kid="encryption", use="enc"),
        "no key",
    ]
}


def token(
    key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "rsa", **claims: Any
) -> str:
    """Sign a token that holds, unless the claims say otherwise; None leaves a claim out."""
    body = {"iss": "https://issuer", "aud": "fraud", "sub": "alice", "exp": time.time() + 3600}
    kept = {name: value for name, value in (body | claims).items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers={"kid": kid} if kid else {})


def headers(**values: str) -> Callable[[str], str | None]:
    """Return what looks up a request's headers."""
    return lambda name: values.get(name.replace("-", "_"))


def bearer(value: str) -> Callable[[str], str | None]:
    """As ``headers``, for a request with a token or a key."""
    return headers(authorization=f"Bearer {value}")


def with_tokens(folder: Path, jwks: Any = JWKS, **auth: Any) -> Authenticator:
    """Ask for tokens of the issuer, whose keys lie in a folder."""
    (folder / "jwks.json").write_text(json.dumps(jwks))
    keys = KeysFolder(folder)
    keys.poll()
    authenticator = Authenticator(keys)
    directive = {"type": "JWT", "issuer": "https://issuer", "audiences": ["fraud", "x"]} | auth
    authenticator.apply(Directives.model_validate({"auth": directive}))
    return authenticator
