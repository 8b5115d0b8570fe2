"""Asks pods what they count and how they are, and Prometheus what it knows: the only HTTP client.

A pod is asked directly, under its own address, so that nothing has to be installed for an analysis.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from modelyard_operator import metrics
from modelyard_operator.errors import ScrapeError
from modelyard_operator.runtime_contract import METRICS_PORT

CONCURRENT: Final = 10
"""Requests that one call makes at once."""
TIMEOUT_S: Final = 5.0
PROXY_TIMEOUT: Final = aiohttp.ClientTimeout(total=1.0)
REVISION_HEADER: Final = "X-Modelyard-Revision"
"""Of every answer of the runtime: docs/reference/runtime-contract.md."""
MAX_BYTES: Final = 4 << 20
"""Longest answer that is read; the runtime's own is a few hundred lines."""


class Scraper:
    """Reads over HTTP from pods and from Prometheus.

    Attributes:
        session: The connections.
        port: Port of a pod's metrics and status.
    """

    def __init__(self, session: aiohttp.ClientSession, *, port: int = METRICS_PORT) -> None:
        self.session = session
        self.port = port

    @classmethod
    @asynccontextmanager
    async def connect(cls) -> AsyncIterator["Scraper"]:
        """Open the connections for as long as the context lasts."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield cls(session)

    async def read_pods(self, addresses: Mapping[str, str], path: str) -> dict[str, str]:
        """Get the same path from several pods.

        Args:
            addresses: IP addresses, by whatever the caller calls the pods.
            path: ``/metrics`` or ``/status``.

        Returns:
            The text of each pod that answered; one that did not is left out.
        """
        room = asyncio.Semaphore(CONCURRENT)

        async def read(address: str) -> str | None:
            host = f"[{address}]" if ":" in address else address
            async with room:
                try:
                    return await self.get(f"http://{host}:{self.port}{path}")
                except ScrapeError:
                    return None

        texts = await asyncio.gather(*map(read, addresses.values()))
        return {name: text for name, text in zip(addresses, texts, strict=True) if text is not None}

    async def get(self, url: str) -> str:
        """Get a text.

        Args:
            url: Where from; redirections are not followed.

        Raises:
            ScrapeError: No answer in time, another status than 200, or too long a text.
        """
        try:
            text = await self._read(url)
        except ScrapeError:
            metrics.SCRAPES.labels("failure").inc()
            raise
        metrics.SCRAPES.labels("success").inc()
        return text

    async def answered_by(self, url: str, host: str) -> str | None:
        """Ask a proxy on a connection of its own; return the revision that has answered.

        Args:
            url: Where the proxy listens, and the path.
            host: Host that is asked for; its certificate is not looked at, nor is the answer.

        Returns:
            Empty when the answer names none; None without an answer.
        """
        headers = {"Host": host, "Connection": "close"}
        try:
            async with self.session.get(
                url,
                headers=headers,
                allow_redirects=False,
                ssl=False,
                server_hostname=host if url.startswith("https") else None,
                timeout=PROXY_TIMEOUT,
            ) as response:
                return response.headers.get(REVISION_HEADER, "")
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _read(self, url: str) -> str:
        try:
            async with self.session.get(url, allow_redirects=False) as response:
                if response.status == 200:  # noqa: PLR2004 - what an answer has
                    return await _bounded(response.content)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ScrapeError(f"no answer: {type(error).__name__}: {error}") from error
        raise ScrapeError(f"expected status 200, got {response.status}")


async def _bounded(content: aiohttp.StreamReader) -> str:
    parts, length = [], 0
    async for part in content.iter_any():
        length += len(part)
        if length > MAX_BYTES:
            raise ScrapeError(f"expected at most {MAX_BYTES} bytes, got more")
        parts.append(part)
    return b"".join(parts).decode(errors="replace")
