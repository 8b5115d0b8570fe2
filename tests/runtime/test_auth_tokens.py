"""Tokens of an issuer, and each that does not hold turned away with the reason."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from structlog.testing import capture_logs

from modelyard_runtime.auth.authenticator import Authenticator
from modelyard_runtime.auth.key_sets import LocalKeys
from modelyard_runtime.auth.keys import KeysFolder
from modelyard_runtime.auth.tokens import TokenVerifier
from modelyard_runtime.directives import AuthDirective, Directives
from modelyard_runtime.errors import UnauthorizedError
from testkit.runtime_tokens import (
    EC_KEY,
    ED_KEY,
    JWKS,
    OTHER_KEY,
    RSA_KEY,
    bearer,
    jwk,
    token,
    with_tokens,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "good",
    [
        token(),
        token(EC_KEY, "ES256", "ec"),
        token(ED_KEY, "EdDSA", "ed"),
        token(RSA_KEY, "PS384"),
        token(EC_KEY, "ES256", None),  # the only key of its kind
        token(aud=["other", "x"]),
    ],
)
async def test_a_token_names_its_subject(tmp_path: Path, good: str) -> None:
    gate = with_tokens(tmp_path)
    assert await gate.principal(bearer(good)) == "alice"
    assert await gate.principal(bearer(good)) == "alice"


async def test_clocks_may_differ(tmp_path: Path) -> None:
    gate = with_tokens(tmp_path)
    for fresh in (token(exp=time.time() - 5), token(nbf=time.time() + 5)):
        assert await gate.principal(bearer(fresh)) == "alice"


def forged(algorithm: str, key: bytes) -> str:
    """What PyJWT itself refuses to make: signed with the public key as if it were a secret."""

    def encode(part: Any) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")

    body = {"iss": "https://issuer", "aud": "fraud", "sub": "alice", "exp": time.time() + 3600}
    text = encode({"alg": algorithm, "kid": "rsa"}) + b"." + encode(body)
    signature = hmac.digest(key, text, "sha256") if key else b""
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ("", "a token is required"),
        ("x", "no JSON Web Token"),
        ("a.b.c", "no JSON Web Token"),
        ("x" * 17_000, "too long"),
        (token(exp=time.time() - 3600), "expired"),
        (token(exp=None), "lacks one of the claims"),
        (token(nbf=time.time() + 3600), "does not hold yet"),
        (token(iss="https://other"), "another issuer"),
        (token(iss=None), "lacks one of the claims"),
        (token(aud="other"), "not meant for this service"),
        (token(aud=None), "lacks one of the claims"),
        (token(sub=None), "lacks one of the claims"),
        (token(sub=""), "subject is empty"),
        (token(sub="s" * 300), "too long"),
        (token(OTHER_KEY), "signature does not hold"),
        (token(kid="nobody"), "no key of the issuer"),
        (token(OTHER_KEY, kid="encryption"), "no key of the issuer"),
        (token(RSA_KEY, kid="ec"), "no key of the issuer"),
        (forged("none", b""), "no key of the issuer"),
        (
            forged("HS256", jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key()).encode()),
            "no key",
        ),
        (token("secret-secret-secret-secret-1234", "HS256", "shared"), "no key of the issuer"),
    ],
)
async def test_a_token_that_does_not_hold_is_refused_with_the_reason(
    tmp_path: Path, bad: str, word: str
) -> None:
    gate = with_tokens(tmp_path)
    with capture_logs() as logs, pytest.raises(UnauthorizedError, match=word) as refused:
        await gate.principal(bearer(bad))
    assert refused.value.challenge.startswith("Bearer")
    assert len(bad) < 5 or bad not in str(refused.value) + str(logs)


async def test_an_audience_that_nobody_asked_for_is_refused(tmp_path: Path) -> None:
    gate = with_tokens(tmp_path, audiences=[])
    assert await gate.principal(bearer(token(aud=None))) == "alice"
    with pytest.raises(UnauthorizedError, match="not meant for this service"):
        await gate.principal(bearer(token()))


@pytest.mark.parametrize("jwks", [{}, {"keys": []}, {"keys": [{"kty": "RSA"}]}, [], "x"])
async def test_a_bad_key_set_lets_nobody_in(tmp_path: Path, jwks: Any) -> None:
    with capture_logs() as logs:
        gate = with_tokens(tmp_path, jwks)
    assert [log["log_level"] for log in logs if "key set" in log["event"]] == ["error"]
    with pytest.raises(UnauthorizedError):
        await gate.principal(bearer(token()))


async def test_a_new_key_set_counts(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk(OTHER_KEY, "RS256", kid="rsa")]}))
    keys = KeysFolder(tmp_path)
    keys.poll()
    gate = Authenticator(keys)
    auth = {"type": "JWT", "issuer": "https://issuer", "audiences": ["fraud"]}
    gate.apply(Directives.model_validate({"auth": auth}))
    assert await gate.principal(bearer(token(OTHER_KEY))) == "alice"
    (tmp_path / "jwks.json").write_text(json.dumps(JWKS))
    keys.poll()
    assert await gate.principal(bearer(token())) == "alice"
    with pytest.raises(UnauthorizedError):  # though it was good a moment ago
        await gate.principal(bearer(token(OTHER_KEY)))


async def test_what_is_remembered_expires_with_the_token() -> None:
    class Once:
        asked = 0
        keys = LocalKeys(json.dumps(JWKS).encode())

        async def find(self, kid: str | None, algorithm: str) -> Any:
            self.asked += 1
            return await self.keys.find(kid, algorithm) if self.asked == 1 else None

    now = time.time()
    keys = Once()
    directive = AuthDirective(type="JWT", issuer="https://issuer", audiences=("fraud",))
    verifier = TokenVerifier(directive, keys, lambda: now)
    good = token(exp=now + 60)
    for _ in range(3):
        assert await verifier.principal(good) == "alice"
    assert keys.asked == 1
    now += 100
    with pytest.raises(UnauthorizedError):
        await verifier.principal(good)
    assert keys.asked == 2
