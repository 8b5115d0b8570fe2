"""Keys from a folder, and everybody else turned away."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from modelyard_runtime.auth.authenticator import POLL_S, Authenticator
from modelyard_runtime.auth.keys import KeysFolder
from modelyard_runtime.directives import Directives
from modelyard_runtime.errors import ForbiddenError, UnauthorizedError
from testkit.runtime_tokens import bearer, headers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

API_KEY = Directives.model_validate({"auth": {"type": "APIKey"}})


def with_keys(folder: Path, **keys: str) -> Authenticator:
    for name, content in keys.items():
        (folder / name).write_text(content)
    keys_folder = KeysFolder(folder)
    authenticator = Authenticator(keys_folder)
    keys_folder.poll()
    authenticator.apply(API_KEY)
    return authenticator


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


async def test_a_new_key_counts_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert POLL_S < 1
    monkeypatch.setattr("modelyard_runtime.auth.authenticator.POLL_S", 0.001)
    gate = with_keys(tmp_path, alice="key-1")
    watching = asyncio.create_task(gate.watch())
    (tmp_path / "bob").write_text("key-2")
    while len(gate._keys) < 2:  # noqa: ASYNC110 - nobody is told of a new key
        await asyncio.sleep(0.001)
    assert await gate.principal(bearer("key-2")) == "bob"
    watching.cancel()
