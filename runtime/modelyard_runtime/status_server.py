"""``:8082``: metrics and status, from a thread of its own, so that a busy loop answers them too."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import orjson
from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry


class StatusServer:
    """Serves ``GET /metrics`` and ``GET /status`` until it is closed.

    Args:
        port: 0 takes a free one.
        status: Gives the status document; called from the server's threads.
        registry: What ``/metrics`` shows.
        host: Address to listen on.

    Raises:
        OSError: The port is taken.
    """

    def __init__(
        self,
        port: int,
        status: Callable[[], Mapping[str, Any]],
        registry: CollectorRegistry,
        *,
        host: str = "0.0.0.0",  # noqa: S104 - the operator and Prometheus come from outside the pod
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """Answer one GET."""
                path = self.path.partition("?")[0]
                if path == "/status":
                    self._answer(200, "application/json", orjson.dumps(status()))
                elif path == "/metrics":
                    # OpenMetrics, to who asks for it, carries exemplars.
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(200, content_type, encode(registry))
                else:
                    self._answer(404, "application/json", b'{"error":"try /metrics or /status"}')

            def _answer(self, code: int, content_type: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Keep scrapes out of the log."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="status", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
