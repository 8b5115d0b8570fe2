"""The last word of a container, which the kubelet copies into its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_MESSAGE_BYTES: Final = 4096
"""What the kubelet keeps of a termination message."""

_log = structlog.stdlib.get_logger(__name__)


def write_termination_message(path: Path, document: Mapping[str, Any]) -> None:
    """Write ``document`` as JSON that the kubelet does not cut.

    Long sentences are shortened, never the structure: half a JSON object would be unreadable.

    Args:
        path: The container's ``terminationMessagePath``.
        document: The message of the contract.
    """
    text = orjson.dumps(document)
    if len(text) > MAX_MESSAGE_BYTES:
        text = orjson.dumps(
            {
                k: v[:600] + "…" if isinstance(v, str) and len(v) > 600 else v  # noqa: PLR2004
                for k, v in document.items()
            }
        )
    try:
        # Opened without creating: outside a pod there is no such file, and none is left behind.
        with path.open("r+b") as file:
            file.truncate()
            file.write(text)
    except OSError as error:
        _log.info("no termination log", path=str(path), error=str(error))
