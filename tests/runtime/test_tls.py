"""TLS over HTTP and gRPC, and certificates that are renewed under way."""

from __future__ import annotations

import shutil
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from structlog.testing import capture_logs

from modelyard_runtime.certificates import Certificates
from modelyard_runtime.errors import StartupError
from modelyard_runtime.grpc_api import inference_pb2 as pb
from modelyard_runtime.settings import RuntimeSettings
from testkit import runtime_models as models
from testkit.ports import free_ports
from testkit.runtime_certificates import name_in, write_certificate
from testkit.runtime_serving import running

if TYPE_CHECKING:
    from pathlib import Path

BODY = models.request("x", "FP32", [1, 4], [1, 2, 3, 4])


def test_broken_files_do_not_start(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path, "a")
    Certificates(cert, key)
    other = tmp_path / "other"
    other.mkdir()
    _, other_key = write_certificate(other, "b")
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("rubbish")
    for pair in ((cert, other_key), (rubbish, key), (cert, rubbish), (cert, tmp_path / "none")):
        with pytest.raises(StartupError, match="MODELYARD_TLS_CERT_FILE") as caught:
            Certificates(*pair)
        assert caught.value.reason == "InvalidSettings"


def test_one_file_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="go together"):
        RuntimeSettings(tls_cert_file=tmp_path / "tls.crt")


def test_ports_for_tls_need_a_certificate() -> None:
    with pytest.raises(ValueError, match="need MODELYARD_TLS_CERT_FILE"):
        RuntimeSettings(https_port=8443)


def test_what_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path, "a")
    certificates = Certificates(cert, key)
    before = certificates.pair
    good = cert.read_bytes()
    with capture_logs() as logs:
        for content in (b"rubbish", b"", good[:200]):
            cert.write_bytes(content)
            certificates.poll()
            certificates.poll()
        cert.unlink()
        certificates.poll()
        assert certificates.pair is before
        cert.write_bytes(good)
        certificates.poll()
    assert certificates.pair is before
    assert {log["event"] for log in logs} == {"certificate cannot be used, the last one stays"}
    assert "PRIVATE" not in str(logs)


def serving_tls(folder: Path, cert: Path, key: Path, **settings: str) -> Any:
    """Serve a model in a process of its own, with a certificate."""
    model = str(models.linear_onnx(folder / "model.onnx"))
    files = {"tls_cert_file": str(cert), "tls_key_file": str(key)}
    return running(folder, "serve", model, **files, **settings)


def wait_for_log(log: Path, event: str) -> None:
    end = time.monotonic() + 10
    while event not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ports_for_tls_are_open_beside_the_others(tmp_path: Path, workers: int) -> None:
    cert, key = write_certificate(tmp_path, "localhost")
    https, grpcs = free_ports(2)
    with serving_tls(
        tmp_path,
        cert,
        key,
        https_port=str(https),
        grpcs_port=str(grpcs),
        http_workers=str(workers),
    ) as runtime:
        runtime.wait_for("Ready")
        trusted = cert.read_bytes()
        context = ssl.create_default_context(cadata=trusted.decode())
        for base in (runtime.http, f"https://127.0.0.1:{https}"):
            with httpx.Client(base_url=base, verify=context) as client:
                assert client.post("/v2/models/model/infer", json=BODY).status_code == 200
        credentials = grpc.ssl_channel_credentials(trusted)
        with grpc.secure_channel(f"127.0.0.1:{grpcs}", credentials) as encrypted:
            assert ready(encrypted)
        with grpc.insecure_channel(runtime.grpc) as plain:
            assert ready(plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["https_port", "grpcs_port"])
def test_a_port_for_tls_that_is_taken_ends_the_start(tmp_path: Path, name: str) -> None:
    cert, key = write_certificate(tmp_path, "localhost")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving_tls(tmp_path, cert, key, **{name: str(port)}) as runtime:
            assert runtime.process.wait(30) == 1
            said = runtime.last_word()
    assert said["reason"] == "InvalidSettings"
    assert f"MODELYARD_{name.upper()}: cannot listen on 127.0.0.1:{port}" in said["message"]


@pytest.mark.slow
def test_both_protocols_show_what_was_written_last(tmp_path: Path) -> None:
    served, later = tmp_path / "tls", tmp_path / "later"
    served.mkdir()
    later.mkdir()
    cert, key = write_certificate(served, "first")
    write_certificate(later, "second")
    with serving_tls(tmp_path, cert, key) as runtime:
        runtime.wait_for("Ready")
        port = int(runtime.http.rpartition(":")[2])
        url = f"https://127.0.0.1:{port}"
        trusted = cert.read_bytes()
        context = ssl.create_default_context(cadata=trusted.decode())
        with httpx.Client(base_url=url, verify=context) as client:
            assert client.post("/v2/models/model/infer", json=BODY).status_code == 200
            with grpc.secure_channel(
                runtime.grpc, grpc.ssl_channel_credentials(trusted)
            ) as channel:
                assert ready(channel)
                cert.write_text("rubbish")
                wait_for_log(runtime.log, "certificate cannot be used")
                assert name_in(ssl.get_server_certificate(("127.0.0.1", port))) == "first"
                for name in ("tls.crt", "tls.key"):
                    shutil.copy(later / name, served / name)
                wait_for_log(runtime.log, "certificate read")
                # Connections that are open go on.
                assert client.post("/v2/models/model/infer", json=BODY).status_code == 200
                assert ready(channel)
        assert name_in(ssl.get_server_certificate(("127.0.0.1", port))) == "second"
        now = cert.read_bytes()
        with grpc.secure_channel(runtime.grpc, grpc.ssl_channel_credentials(now)) as channel:
            assert ready(channel)
        with (
            grpc.secure_channel(runtime.grpc, grpc.ssl_channel_credentials(trusted)) as channel,
            pytest.raises(grpc.RpcError),
        ):
            ready(channel)
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{runtime.http}/v2/health/live")
        assert runtime.process.poll() is None


@pytest.mark.slow
def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path, "a")
    key.write_text("rubbish")
    with serving_tls(tmp_path, cert, key) as runtime:
        assert runtime.process.wait(100) == 1
        word = runtime.last_word()
        assert word["reason"] == "InvalidSettings"
        assert "MODELYARD_TLS_KEY_FILE" in word["message"]


def ready(channel: grpc.Channel) -> Any:
    ask = channel.unary_unary(
        "/inference.GRPCInferenceService/ServerReady",
        pb.ServerReadyRequest.SerializeToString,
        pb.ServerReadyResponse.FromString,
    )
    return ask(pb.ServerReadyRequest(), timeout=30).ready
