"""Keys from a folder, tokens of an issuer, and everybody else turned away."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from structlog.testing import capture_logs

from modelyard_runtime.auth.authenticator import Authenticator
from modelyard_runtime.auth.key_sets import RemoteKeys
from modelyard_runtime.auth.keys import KeysFolder
from modelyard_runtime.auth.tokens import TokenVerifier
from modelyard_runtime.directives import AuthDirective, Directives
from modelyard_runtime.errors import ForbiddenError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

API_KEY = Directives.model_validate({"auth": {"type": "APIKey"}})
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
ALGORITHMS: dict[str, Any] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def jwk(key: Any, algorithm: str, **more: str) -> dict[str, Any]:
    document: dict[str, Any] = ALGORITHMS[algorithm].to_jwk(key.public_key(), as_dict=True)
    return document | more


JWKS = {
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
    body = {"iss": "https://issuer", "aud": "fraud", "sub": "alice", "exp": time.time() + 3600}
    kept = {name: value for name, value in (body | claims).items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers={"kid": kid} if kid else {})


def headers(**values: str) -> Callable[[str], str | None]:
    return lambda name: values.get(name.replace("-", "_"))


def bearer(value: str) -> Callable[[str], str | None]:
    return headers(authorization=f"Bearer {value}")


def with_keys(folder: Path, **keys: str) -> Authenticator:
    for name, content in keys.items():
        (folder / name).write_text(content)
    keys_folder = KeysFolder(folder)
    authenticator = Authenticator(keys_folder)
    keys_folder.poll()
    authenticator.apply(API_KEY)
    return authenticator


def with_tokens(folder: Path, jwks: Any = JWKS, **auth: Any) -> Authenticator:
    (folder / "jwks.json").write_text(json.dumps(jwks))
    keys = KeysFolder(folder)
    keys.poll()
    authenticator = Authenticator(keys)
    directive = {"type": "JWT", "issuer": "https://issuer", "audiences": ["fraud", "x"]} | auth
    authenticator.apply(Directives.model_validate({"auth": directive}))
    return authenticator


# --- keys ------------------------------------------------------------------------------------


async def test_a_key_names_its_principal(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"key-of-bob").hexdigest()
    gate = with_keys(tmp_path, alice="key-of-alice\n", bob=f"sha256:{digest}")
    assert await gate.principal(bearer("key-of-alice")) == "alice"
    assert await gate.principal(headers(authorization="bearer  key-of-bob ")) == "bob"
    assert await gate.principal(headers(x_api_key="key-of-bob")) == "bob"


@pytest.mark.parametrize("wrong", ["key", "key-of-alice2", "KEY-OF-ALICE", "sha256:0", "\udcff"])
async def test_a_wrong_key_is_forbidden_and_not_repeated(tmp_path: Path, wrong: str) -> None:
    gate = with_keys(tmp_path, alice="key-of-alice")
    with capture_logs() as logs, pytest.raises(ForbiddenError) as refused:
        await gate.principal(headers(x_api_key=wrong))
    assert wrong not in str(refused.value).replace("the key is", "")
    assert logs == []


async def test_the_hash_itself_opens_nothing(tmp_path: Path) -> None:
    written = f"sha256:{hashlib.sha256(b'key-of-bob').hexdigest()}"
    gate = with_keys(tmp_path, bob=written)
    with pytest.raises(ForbiddenError):
        await gate.principal(bearer(written))


@pytest.mark.parametrize(
    "nothing", [headers(), headers(authorization="Basic YTpi"), headers(x_api_key=""), bearer("")]
)
async def test_no_key_is_a_question_for_one(
    tmp_path: Path, nothing: Callable[[str], str | None]
) -> None:
    gate = with_keys(tmp_path, alice="key-of-alice")
    with pytest.raises(UnauthorizedError) as refused:
        await gate.principal(nothing)
    assert refused.value.challenge == "Bearer"


async def test_without_auth_anybody_comes_in(tmp_path: Path) -> None:
    gate = Authenticator(KeysFolder(tmp_path))
    gate.apply(Directives())
    assert not gate.required
    assert await gate.principal(bearer("anything")) == ""
    gate.apply(API_KEY)
    with pytest.raises(ForbiddenError):
        await gate.principal(bearer("anything"))
    gate.apply(Directives())
    assert await gate.principal(headers()) == ""


def test_what_is_no_key_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "alice").write_text("key-of-alice")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "alice").symlink_to("..data/alice")
    (tmp_path / ".hidden").write_text("hidden")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "half").write_text("sha256:abc")
    (tmp_path / "jwks.json").write_text("{}")
    keys = KeysFolder(tmp_path)
    keys.poll()
    assert len(keys) == 1
    assert keys.jwks == b"{}"
    for name in ("hidden", "", "sha256:abc", "{}"):
        assert keys.principal(name) is None


def test_the_kubelet_s_swap_is_noticed(tmp_path: Path) -> None:
    for name, content in (("one", "old-key"), ("two", "new-key")):
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}" / "alice").write_text(content)
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "alice").symlink_to("..data/alice")
    keys = KeysFolder(tmp_path)
    keys.poll()
    assert keys.principal("old-key") == "alice"
    (tmp_path / "..tmp").symlink_to("..two")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    keys.poll()
    assert (keys.principal("old-key"), keys.principal("new-key")) == (None, "alice")


def test_a_key_that_is_taken_away_opens_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "alice").write_text("key-1")
    keys = KeysFolder(folder)
    keys.poll()
    (folder / "alice").write_text("key-2")  # within the same tick, and as long
    keys.poll()
    assert (keys.principal("key-1"), keys.principal("key-2")) == (None, "alice")
    (folder / "alice").unlink()
    folder.rmdir()
    keys.poll()
    keys.poll()
    assert keys.principal("key-2") is None
    assert len(KeysFolder(None)) == 0


def test_files_that_have_rested_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alice").write_text("key-1")
    keys = KeysFolder(tmp_path)
    keys.poll()
    later = time.time_ns() + 3_000_000_000
    monkeypatch.setattr("time.time_ns", lambda: later)
    keys.poll()
    reads: list[Path] = []
    monkeypatch.setattr(KeysFolder, "_contents", staticmethod(reads.append))
    keys.poll()
    assert reads == []


def test_twins_are_told(tmp_path: Path) -> None:
    with capture_logs() as logs:
        with_keys(tmp_path, alice="key-1", bob="key-1")
    assert any(log["event"] == "two principals have the same key" for log in logs)
    assert "key-1" not in str(logs)


async def test_a_new_key_counts_within_a_second(tmp_path: Path) -> None:
    gate = with_keys(tmp_path, alice="key-1")
    watching = asyncio.create_task(gate.watch())
    (tmp_path / "bob").write_text("key-2")
    async with asyncio.timeout(1):
        while True:
            try:
                assert await gate.principal(bearer("key-2")) == "bob"
                break
            except ForbiddenError:
                await asyncio.sleep(0.01)
    watching.cancel()


# --- tokens ----------------------------------------------------------------------------------


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
    import base64  # noqa: PLC0415
    import hmac  # noqa: PLC0415

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

        async def find(self, kid: str | None, algorithm: str) -> Any:
            self.asked += 1
            return await RemoteKeysOf(JWKS).find(kid, algorithm) if self.asked == 1 else None

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


# --- an issuer's endpoint --------------------------------------------------------------------


def RemoteKeysOf(document: Any) -> Any:  # noqa: N802
    from modelyard_runtime.auth.key_sets import LocalKeys  # noqa: PLC0415

    return LocalKeys(json.dumps(document).encode())


class Issuer:
    def __init__(self) -> None:
        self.document: Any = JWKS
        self.status = 200
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()


@contextmanager
def issuing() -> Iterator[tuple[Issuer, str]]:
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            issuer.gate.wait(5)
            body = json.dumps(issuer.document).encode()
            self.send_response(issuer.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield issuer, f"http://127.0.0.1:{server.server_address[1]}/keys"
    finally:
        issuer.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()


async def test_keys_are_fetched_once_for_all_who_wait(tmp_path: Path) -> None:
    with issuing() as (issuer, uri):
        gate = with_tokens(tmp_path, {}, jwksURI=uri)
        issuer.gate.clear()
        waiting = [asyncio.create_task(gate.principal(bearer(token(jti=str(i))))) for i in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # the first to ask leaves
        issuer.gate.set()  # the loop was free all the time
        assert await asyncio.gather(*waiting[1:]) == ["alice"] * 4
        assert issuer.asked == 1
        gate.close()


async def test_the_last_keys_hold_while_the_issuer_is_down() -> None:
    now = 0.0
    with issuing() as (issuer, uri):
        keys = RemoteKeys(uri, lambda: now)
        assert await keys.find("rsa", "RS256") is not None
        issuer.status = 500
        now = 301
        assert await keys.find("rsa", "RS256") is not None  # old, but there; asked behind our back
        task = keys._fetching
        assert task is not None
        await task
        assert (issuer.asked, await keys.find("rsa", "RS256") is None) == (2, False)
        now += 6
        issuer.status, issuer.document = 200, {"keys": [jwk(OTHER_KEY, "RS256", kid="new")]}
        assert await keys.find("new", "RS256") is not None
        assert await keys.find("rsa", "RS256") is None
        assert issuer.asked == 3


async def test_invented_key_ids_do_not_reach_the_issuer() -> None:
    now = 0.0
    with issuing() as (issuer, uri):
        keys = RemoteKeys(uri, lambda: now)
        for i in range(20):
            assert await keys.find(f"invented-{i}", "RS256") is None
        assert issuer.asked == 1
        now = 31
        for i in range(20):
            assert await keys.find(f"invented-{i}", "RS256") is None
        assert issuer.asked == 2


async def test_an_issuer_that_answers_nonsense_lets_nobody_in() -> None:
    with issuing() as (issuer, uri):
        issuer.document = {"keys": "x"}
        keys = RemoteKeys(uri)
        with capture_logs() as logs:
            assert await keys.find("rsa", "RS256") is None
        assert logs[0]["log_level"] == "warning"
        keys.close()
