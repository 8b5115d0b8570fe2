"""Fetching models: what arrives, what is resumed, and every reason why not."""

from __future__ import annotations

import errno
import hashlib
import json
from typing import TYPE_CHECKING, Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import S3Store

from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.fetch.download import Download, Fetched, Progress, measure
from modelyard_runtime.fetch.sources import RemoteFile, checked, open_source
from modelyard_runtime.fetch.store_errors import classify
from modelyard_runtime.lifecycle import Lifecycle, State
from modelyard_runtime.settings import FetchSettings
from testkit.runtime_certificates import write_certificate
from testkit.runtime_serving import running
from testkit.runtime_stores import HttpStore, http_store, s3_program, s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow  # each test starts a server

BYTES = bytes(range(256)) * 4000
DIGEST = "sha256:" + hashlib.sha256(BYTES).hexdigest()


class Fetch:
    """One attempt of the init container, in this process."""

    def __init__(self, folder: Path, uri: str, **settings: Any) -> None:
        self.folder = folder / "m"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.progress = Progress()
        self.lifecycle = Lifecycle(State.DOWNLOADING)
        self.waits: list[float] = []
        self.settings = FetchSettings(
            model_name="m", model_uri=uri, model_repository=folder, **settings
        )

    def run(self, digest: str | None = None) -> Fetched:
        download = Download(
            open_source(self.settings),
            self.folder,
            lifecycle=self.lifecycle,
            progress=self.progress,
            sleep=self.waits.append,
        )
        return download.run(digest)

    def reason(self, digest: str | None = None) -> Reason:
        with pytest.raises(StartupError) as caught:
            self.run(digest)
        assert not (self.folder / "1").exists()
        self.failure = caught.value
        return caught.value.reason


@pytest.fixture
def store() -> Iterator[HttpStore]:
    with http_store(HttpStore({"/a/model.onnx": BYTES})) as store:
        yield store


def test_a_file_over_http(tmp_path: Path, store: HttpStore) -> None:
    fetch = Fetch(tmp_path, f"{store.url}/a/model.onnx")
    assert fetch.run(DIGEST) == Fetched(DIGEST, len(BYTES), 1)
    assert (fetch.folder / "1" / "model.onnx").read_bytes() == BYTES
    assert fetch.progress.as_document() == {
        "bytesTotal": len(BYTES),
        "bytesDownloaded": len(BYTES),
    }
    assert fetch.lifecycle.state is State.VERIFYING


def test_a_second_run_only_verifies(tmp_path: Path, store: HttpStore) -> None:
    first = Fetch(tmp_path, f"{store.url}/a/model.onnx").run()
    store.asked.clear()
    assert Fetch(tmp_path, f"{store.url}/a/model.onnx").run(DIGEST) == first
    assert store.asked == []


def test_a_broken_transfer_goes_on_where_it_broke(tmp_path: Path, store: HttpStore) -> None:
    fetch = Fetch(tmp_path, f"{store.url}/a/model.onnx")
    source = open_source(fetch.settings)
    files = source.list_files()
    store.cut_after = 700_000  # of the transfer, not of the look at the head
    source.list_files = lambda: files  # type: ignore[method-assign]
    download = Download(
        source,
        fetch.folder,
        lifecycle=fetch.lifecycle,
        progress=fetch.progress,
        sleep=fetch.waits.append,
    )
    assert download.run(DIGEST).digest == DIGEST
    resumed = [given for _, given in store.asked if given]
    assert resumed
    assert all(int(given.removeprefix("bytes=").partition("-")[0]) > 0 for given in resumed)


def leave_a_part(folder: Path, store: HttpStore, size: int) -> None:
    """Leave what a container that was killed leaves."""
    staging = folder / "m" / ".fetching"
    staging.mkdir(parents=True)
    (staging / "model.onnx").write_bytes(BYTES[:size])
    note = {"model.onnx": {"etag": store.etag, "size": len(BYTES)}}
    (folder / "m" / ".fetching.json").write_text(json.dumps(note))


def test_a_restarted_container_resumes(tmp_path: Path, store: HttpStore) -> None:
    leave_a_part(tmp_path, store, 500_000)
    Fetch(tmp_path, f"{store.url}/a/model.onnx").run(DIGEST)
    assert store.asked[-1] == ("/a/model.onnx", "bytes=500000-")


def test_a_part_of_another_object_is_thrown_away(tmp_path: Path, store: HttpStore) -> None:
    leave_a_part(tmp_path, store, 500_000)
    store.etag = '"two"'
    Fetch(tmp_path, f"{store.url}/a/model.onnx").run(DIGEST)
    assert store.asked[-1] == ("/a/model.onnx", None)


def test_a_part_without_a_fingerprint_is_thrown_away(tmp_path: Path, store: HttpStore) -> None:
    store.etag = None
    leave_a_part(tmp_path, store, 500_000)
    Fetch(tmp_path, f"{store.url}/a/model.onnx").run(DIGEST)
    assert store.asked[-1] == ("/a/model.onnx", None)


def test_a_server_without_ranges_starts_over(tmp_path: Path, store: HttpStore) -> None:
    store.ranges = False
    leave_a_part(tmp_path, store, 500_000)
    Fetch(tmp_path, f"{store.url}/a/model.onnx").run(DIGEST)
    assert [given for _, given in store.asked] == [None, "bytes=500000-", None]


def test_transient_errors_are_retried_and_permanent_ones_not(
    tmp_path: Path, store: HttpStore
) -> None:
    store.failures = 2
    Fetch(tmp_path / "a", f"{store.url}/a/model.onnx").run(DIGEST)
    store.asked.clear()
    store.status = 403
    fetch = Fetch(tmp_path / "b", f"{store.url}/a/model.onnx")
    assert fetch.reason() == Reason.ACCESS_DENIED
    assert (len(store.asked), fetch.waits) == (1, [])
    assert not fetch.failure.retryable


def test_what_is_not_there(tmp_path: Path, store: HttpStore) -> None:
    for uri in (f"{store.url}/a/other.onnx", f"{store.url}/"):
        assert Fetch(tmp_path, uri).reason() == Reason.ARTIFACT_NOT_FOUND


def test_nobody_answers(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, "http://127.0.0.1:1/model.onnx")
    assert fetch.reason() == Reason.SOURCE_UNREACHABLE
    assert fetch.failure.retryable
    assert fetch.waits == sorted(fetch.waits)
    assert len(fetch.waits) == 5


def test_a_host_that_dns_does_not_know(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, "https://nowhere.invalid/model.onnx?sig=secret")
    assert fetch.reason() == Reason.SOURCE_NOT_RESOLVED
    assert fetch.failure.retryable
    assert "https://nowhere.invalid/model.onnx" in fetch.failure.message
    assert "secret" not in json.dumps(fetch.failure.as_document())


def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path, "private")
    with http_store(HttpStore({"/a/model.onnx": BYTES}), certificate) as store:
        fetch = Fetch(tmp_path, f"{store.url}/a/model.onnx")
        assert fetch.reason() == Reason.SOURCE_NOT_TRUSTED
    assert not fetch.failure.retryable
    assert fetch.waits == []
    assert "InvalidCertificate" in fetch.failure.message
    assert "caBundleConfigMapRef" in fetch.failure.hint


def test_a_server_that_does_not_speak_tls(tmp_path: Path, store: HttpStore) -> None:
    uri = store.url.replace("http://", "https://")
    fetch = Fetch(tmp_path, f"{uri}/a/model.onnx")
    assert fetch.reason() == Reason.SOURCE_NOT_TRUSTED
    assert "InvalidMessage" in fetch.failure.message


def test_wrong_bytes(tmp_path: Path, store: HttpStore) -> None:
    fetch = Fetch(tmp_path, f"{store.url}/a/model.onnx")
    assert fetch.reason("sha256:" + "0" * 64) == Reason.DIGEST_MISMATCH
    assert not (fetch.folder / ".fetching").exists()
    fetch.run(DIGEST)  # and the next attempt starts from nothing


def test_a_secret_in_a_query_is_used_and_never_told(tmp_path: Path, store: HttpStore) -> None:
    uri = f"{store.url}/a/model.onnx?X-Signature=secret"
    fetch = Fetch(tmp_path / "a", uri)
    fetch.run(DIGEST)
    assert all(path.endswith("?X-Signature=secret") for path, _ in store.asked)
    assert "secret" not in open_source(fetch.settings).resolved_uri
    store.status = 403
    refused = Fetch(tmp_path / "b", uri)
    refused.reason()
    assert "secret" not in json.dumps(refused.failure.as_document())


def test_a_full_folder(tmp_path: Path, store: HttpStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Download, "_append", full)
    fetch = Fetch(tmp_path, f"{store.url}/a/model.onnx")
    assert fetch.reason() == Reason.INSUFFICIENT_STORAGE


@pytest.mark.parametrize("uri", ["ftp://host/x", "model.onnx", "hf://a/b"])
def test_schemes_without_a_loader(tmp_path: Path, uri: str) -> None:
    assert Fetch(tmp_path, uri).reason() == Reason.UNSUPPORTED_URI_SCHEME


@pytest.mark.parametrize("path", ["../../etc/passwd", "a/../../b", "/etc/passwd", ""])
def test_names_that_would_leave_the_folder(path: str) -> None:
    with pytest.raises(StartupError):
        checked([RemoteFile(path, "k", 1, None)], "s3://b")


def test_messages_hold_no_debug_output() -> None:
    error = GenericError("Generic S3 error: http://h/b?sig=x failed\n\nDebug source:\nsecret")
    failure = classify(error, "s3://b/k")
    assert failure.reason == Reason.SOURCE_UNREACHABLE
    assert "secret" not in failure.message
    assert "sig=x" not in failure.message


def test_a_digest_of_a_folder_is_what_sha256sum_says(tmp_path: Path) -> None:
    for name, content in (("b.txt", b"b"), ("a/c.txt", b"c")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    lines = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in (("a/c.txt", b"c"), ("b.txt", b"b"))
    )
    digest = "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
    assert measure(tmp_path) == Fetched(digest, 2, 2)


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    folder = tmp_path / "claim" / "models" / "fraud"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(BYTES)
    (folder / "notes.txt").write_bytes(b"notes")
    return tmp_path / "claim"


def test_a_claim_is_linked_and_not_copied(tmp_path: Path, claim: Path) -> None:
    fetch = Fetch(tmp_path, "pvc://data/models/fraud", claim_path=claim)
    assert fetch.run().files == 2
    assert (fetch.folder / "1").resolve() == (claim / "models" / "fraud").resolve()
    assert Fetch(tmp_path, "pvc://data/models/fraud", claim_path=claim).run().files == 2


@pytest.mark.parametrize(
    ("path", "patterns"), [("models/fraud/model.onnx", ()), ("models/fraud", ("*.onnx",))]
)
def test_a_part_of_a_claim(
    tmp_path: Path, claim: Path, path: str, patterns: tuple[str, ...]
) -> None:
    fetch = Fetch(tmp_path, f"pvc://data/{path}", claim_path=claim, include_patterns=patterns)
    assert fetch.run(DIGEST).files == 1
    assert [p.name for p in (fetch.folder / "1").iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("path", ["missing", "../outside", "link"])
def test_a_claim_cannot_be_left(tmp_path: Path, claim: Path, path: str) -> None:
    (tmp_path / "outside").write_bytes(b"x")
    (claim / "link").symlink_to(tmp_path / "outside")
    fetch = Fetch(tmp_path, f"pvc://data/{path}", claim_path=claim)
    assert fetch.reason() == Reason.ARTIFACT_NOT_FOUND


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    program = s3_program()
    if program is None:
        pytest.skip("no versitygw: the local cluster builds it")
    (tmp_path / "s3" / "models").mkdir(parents=True)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-access")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-key")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with s3_server(program, tmp_path / "s3", "test-access", "test-secret-key") as endpoint:
        store = S3Store("models", endpoint=endpoint, client_options={"allow_http": True})
        obstore.put(store, "fraud/8/model.onnx", BYTES)
        obstore.put(store, "fraud/8/extra/labels.txt", b"a\nb\n")
        obstore.put(store, "fraud/80/other.onnx", b"other")
        yield endpoint


def test_a_prefix_of_a_real_s3_server(tmp_path: Path, s3: str) -> None:
    fetch = Fetch(tmp_path / "m", "s3://models/fraud/8", endpoint_url=s3)
    fetched = fetch.run()
    folder = fetch.folder / "1"
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {"model.onnx", "extra/labels.txt"}
    assert fetched == Fetched(measure(folder).digest, len(BYTES) + 4, 2)


def test_one_object_and_patterns_on_s3(tmp_path: Path, s3: str) -> None:
    one = Fetch(tmp_path / "a", "s3://models/fraud/8/model.onnx", endpoint_url=s3)
    assert one.run(DIGEST).files == 1
    some = Fetch(
        tmp_path / "b", "s3://models/fraud/8/", endpoint_url=s3, include_patterns=("*.txt",)
    )
    assert some.run().files == 1
    assert (some.folder / "1" / "extra" / "labels.txt").read_bytes() == b"a\nb\n"


def test_s3_resumes(tmp_path: Path, s3: str) -> None:
    fetch = Fetch(tmp_path / "m", "s3://models/fraud/8/model.onnx", endpoint_url=s3)
    (file,) = open_source(fetch.settings).list_files()
    staging = fetch.folder / ".fetching"
    staging.mkdir()
    (staging / "model.onnx").write_bytes(BYTES[:700_000])
    note = {"model.onnx": {"etag": file.etag, "size": file.size}}
    (fetch.folder / ".fetching.json").write_text(json.dumps(note))
    assert fetch.run(DIGEST).digest == DIGEST


def test_reasons_of_s3(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(uri: str) -> Reason:
        return Fetch(tmp_path / "m", uri, endpoint_url=s3).reason()

    assert reason("s3://models/fraud/9") == Reason.ARTIFACT_NOT_FOUND
    assert reason("s3://absent/fraud") == Reason.ARTIFACT_NOT_FOUND
    assert reason("s3://models/fraud/missing.onnx") == Reason.ARTIFACT_NOT_FOUND
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-key")
    assert reason("s3://models/fraud/8") == Reason.ACCESS_DENIED


def test_the_init_container(tmp_path: Path, store: HttpStore) -> None:
    with running(
        tmp_path,
        module="modelyard_runtime.fetch",
        model_name="m",
        model_digest=DIGEST,
        model_uri=f"{store.url}/a/model.onnx",
        model_repository=str(tmp_path / "models"),
    ) as fetch:
        assert fetch.process.wait(100) == 0
        word = fetch.last_word()
        seconds = word.pop("seconds")
        assert 0 <= seconds < 30
        assert word == {
            "resolvedURI": f"{store.url}/a/model.onnx",
            "digest": DIGEST,
            "bytes": len(BYTES),
            "files": 1,
        }
    assert (tmp_path / "models" / "m" / "1" / "model.onnx").exists()


def test_the_init_container_fails_with_a_reason(tmp_path: Path) -> None:
    with running(
        tmp_path,
        module="modelyard_runtime.fetch",
        model_name="m",
        model_uri="ftp://x/y",
        model_repository=str(tmp_path / "models"),
    ) as fetch:
        assert fetch.process.wait(100) == 1
        assert fetch.last_word()["reason"] == "UnsupportedURIScheme"
    with running(
        tmp_path, module="modelyard_runtime.fetch", model_name="../m", model_uri="s3://b/k"
    ) as fetch:
        assert fetch.process.wait(100) == 2
        assert "MODELYARD_MODEL_NAME" in fetch.last_word()["message"]
