"""What the operator may change without a new revision: a file, hot-reloaded."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard_runtime.metrics import RuntimeMetrics

POLL_S: Final = 1.0
"""How often the file is read. The kubelet swaps a symlink, which events on the file would miss."""

_log = structlog.stdlib.get_logger(__name__)


class Directives(BaseModel):
    """The contract's directives; keys that this runtime does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    path_prefix: str = Field(default="", alias="pathPrefix", pattern=r"^(/.*[^/])?$")
    """Stripped from the front of a request path when present."""
    max_body_bytes: int = Field(default=32 * 1024 * 1024, alias="maxBodyBytes", gt=0, strict=True)
    """Larger bodies are refused."""


class DirectivesFile:
    """The last good directives, and the hash of the bytes they came from.

    Args:
        path: The file; None keeps the defaults for ever.
        metrics: Where reloads are counted.
    """

    def __init__(self, path: Path | None, metrics: RuntimeMetrics) -> None:
        self._path = path
        self._metrics = metrics
        self._seen: bytes | None = None
        self._unreadable = False
        self.current = Directives()
        self.hash: str | None = None

    def poll(self) -> None:
        """Apply the file if its content has changed; keep the last good directives otherwise.

        The file is small, so its content is compared and not its times: two writes within one tick
        of the clock are then two writes.
        """
        if self._path is None:
            return
        try:
            content = self._path.read_bytes()
        except OSError as error:
            if not self._unreadable:
                _log.warning("directives cannot be read", path=str(self._path), error=str(error))
            self._unreadable = True
            return
        self._unreadable = False
        if content == self._seen:
            return
        self._seen = content
        try:
            self.current = Directives.model_validate_json(content)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()
            )
            _log.error("directives rejected, the last good ones stay", problems=problems)
            self._metrics.directives_read(applied=False)
            return
        self.hash = hashlib.sha256(content).hexdigest()[:16]
        self._metrics.directives_read(applied=True)
        _log.info("directives applied", directives_hash=self.hash)

    async def watch(self) -> None:
        """Poll for ever."""
        while True:
            self.poll()
            await asyncio.sleep(POLL_S)
