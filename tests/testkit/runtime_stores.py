"""Places to fetch models from: a small HTTP server with ranges and faults, and a real S3 server."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from testkit.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class HttpStore:
    """What the HTTP server serves, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"one"'
    cut_after: int | None = None
    """Break the connection of the next request, after so many bytes of its body."""
    failures: int = 0
    """How many requests to answer 503 first."""
    status: int = 200
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: HttpStore

    def do_GET(self) -> None:
        store = self.store
        given = self.headers.get("range")
        store.asked.append((self.path, given))
        # Taken before anything is sent: who wanted the head alone may change the store from then on.
        cut_after, store.cut_after = store.cut_after, None
        body = store.files.get(self.path.partition("?")[0])
        status = self._refusal(body)
        if status or body is None:
            self._head(status, 0)
            return
        start = 0
        if given and store.ranges and (found := re.fullmatch(r"bytes=(\d+)-\d*", given)):
            start = int(found[1])
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self._head(206, len(body) - start, span)
        else:
            self._head(200, len(body))
        self._send(body[start:], cut_after)

    def _refusal(self, body: bytes | None) -> int:
        store = self.store
        if store.failures:
            store.failures -= 1
            return 503
        if body is None:
            return 404
        wanted = self.headers.get("if-match")
        if wanted and wanted != store.etag:
            return 412
        return 0 if store.status == 200 else store.status

    def _send(self, part: bytes, cut_after: int | None) -> None:
        if cut_after is not None:
            self.wfile.write(part[:cut_after])
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        try:
            self.wfile.write(part)
        except ConnectionError:
            self.close_connection = True  # only the head was wanted

    def _head(self, status: int, size: int, span: str | None = None) -> None:
        self.send_response(status)
        self.send_header("content-length", str(size))
        if self.store.etag:
            self.send_header("etag", self.store.etag)
        if span:
            self.send_header("content-range", span)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def http_store(
    store: HttpStore, certificate: tuple[Path, Path] | None = None
) -> Iterator[HttpStore]:
    """Serve a store on a free port, over TLS when there is a certificate with its key."""
    handler = type("Handler", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    store.url = f"http://127.0.0.1:{server.server_address[1]}"
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        store.url = store.url.replace("http", "https")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def s3_program() -> str | None:
    """Find the S3 server that the local cluster builds."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelyard" / "bin"
    built = sorted(cache.glob("versitygw-*/versitygw"))
    return shutil.which("versitygw") or (str(built[-1]) if built else None)


@contextmanager
def s3_server(program: str, folder: Path, access: str, secret: str) -> Iterator[str]:
    """Run a real S3 server whose buckets are the folders of ``folder``; yield its endpoint."""
    (port,) = free_ports(1)
    env = {"ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret, "PATH": os.environ["PATH"]}
    process = subprocess.Popen(
        [program, "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(folder)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "the S3 server ended"
                assert time.monotonic() < end, "the S3 server does not answer"
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
