"""The init container: fetch one model, report progress, leave the result as the last word."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.fetch.download import Download, Progress
from modelyard_runtime.fetch.sources import open_source
from modelyard_runtime.lifecycle import Lifecycle, State
from modelyard_runtime.log import configure_logging
from modelyard_runtime.settings import FetchSettings, settings_failure
from modelyard_runtime.status_server import StatusServer
from modelyard_runtime.termination import write_termination_message

_log = structlog.stdlib.get_logger(__name__)


def main() -> int:
    """Run the init container.

    Returns:
        The exit code: 0 with the model in place, 1 after a failure, 2 for invalid settings.
    """
    configure_logging()
    log = Path(os.environ.get("MODELYARD_TERMINATION_LOG", "/dev/termination-log"))
    try:
        settings = FetchSettings()
    except ValidationError as error:
        failure = settings_failure(error)
        _log.error("start failed", reason=str(failure.reason), problem=failure.message)
        write_termination_message(log, failure.as_document())
        return 2
    lifecycle = Lifecycle(State.DOWNLOADING)
    progress = Progress()
    server = StatusServer(
        settings.metrics_port, lambda: _status(settings, lifecycle, progress), CollectorRegistry()
    )
    try:
        write_termination_message(log, _fetch(settings, lifecycle, progress))
    except StartupError as failure:
        lifecycle.fail(failure)
        _log.error("fetch failed", reason=str(failure.reason), problem=failure.message)
        write_termination_message(log, failure.as_document())
        return 1
    finally:
        server.close()
    return 0


def _fetch(settings: FetchSettings, lifecycle: Lifecycle, progress: Progress) -> dict[str, Any]:
    started = time.monotonic()
    source = open_source(settings)
    folder = settings.model_repository / settings.model_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fetched = Download(source, folder, lifecycle=lifecycle, progress=progress).run(
            settings.model_digest
        )
    except OSError as error:
        raise StartupError(
            Reason.INSUFFICIENT_STORAGE,
            f"the model folder cannot be written: {error.strerror or type(error).__name__}",
            hint="The folder must be a writable volume for user 65532.",
        ) from error
    result = {
        "resolvedURI": source.resolved_uri,
        "digest": fetched.digest,
        "bytes": fetched.size,
        "files": fetched.files,
        "seconds": round(time.monotonic() - started, 3),
    }
    _log.info("model fetched", **result)
    return result


def _status(settings: FetchSettings, lifecycle: Lifecycle, progress: Progress) -> dict[str, Any]:
    failure = lifecycle.failure
    return {
        "state": str(lifecycle.state),
        "model": settings.model_name,
        "version": settings.model_version,
        "revision": settings.revision,
        "directivesHash": None,
        "download": progress.as_document(),
        "failure": failure.as_document() if failure else None,
        "models": [],
    }


if __name__ == "__main__":
    sys.exit(main())
