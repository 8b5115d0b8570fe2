"""Clients that ask a server of ``linear_onnx`` without a pause, and check every answer."""

from __future__ import annotations

import ssl
import threading
from typing import Final

import httpx
import numpy as np

from testkit import runtime_models as models
from testkit.runtime_processes import until

_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Not used: it spares each client the reading of all certificates there are."""


class Load:
    """Clients that ask, each its own questions, until they are stopped.

    Args:
        url: Where to ask.
        clients: How many threads.
        keep: Ask on one connection each, not on a new one for each request.

    Attributes:
        codes: Statuses of all answers, in the order in which they came.
        told_to_leave: Whether an answer said that the connection ends with it.
        broken: Requests without an answer within 20 s, in words.
        wrong: Answers to another question, in words.
    """

    def __init__(self, url: str, clients: int = 4, *, keep: bool = True) -> None:
        self.codes: list[int] = []
        self.told_to_leave = False
        self.broken: list[str] = []
        self.wrong: list[str] = []
        self._url = url
        self._keep = keep
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int, code: int = 200) -> None:
        """Wait until so many further requests have been answered so."""
        before = self.codes.count(code)
        until(lambda: self.codes.count(code) >= before + count)

    def stop(self) -> None:
        """Let the clients end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        while not self._stop.is_set():
            with httpx.Client(timeout=20, verify=_NO_TLS) as client:
                self._ask(client, random)
                while self._keep and not self._stop.is_set():
                    self._ask(client, random)

    def _ask(self, client: httpx.Client, random: np.random.Generator) -> None:
        x = random.random((2, 4), np.float32)
        body = models.request("x", "FP32", [2, 4], x.reshape(-1).tolist())
        try:
            answer = client.post(self._url, json=body)
        except httpx.HTTPError as error:
            self.broken.append(repr(error))
            return
        self.codes.append(answer.status_code)
        if answer.headers.get("connection") == "close":
            self.told_to_leave = True
        if answer.status_code == 200:
            got = np.reshape(answer.json()["outputs"][0]["data"], (2, 3))
            if not np.allclose(got, x @ models.WEIGHTS, rtol=1e-4):
                self.wrong.append(answer.text)
