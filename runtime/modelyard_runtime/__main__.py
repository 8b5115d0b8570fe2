"""``python -m modelyard_runtime`` and ``modelyard-runtime``: the only reader of the environment."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from modelyard_runtime import __version__
from modelyard_runtime.config import stated_name
from modelyard_runtime.log import configure_logging
from modelyard_runtime.settings import RuntimeSettings, settings_failure
from modelyard_runtime.termination import write_termination_message

if TYPE_CHECKING:
    from collections.abc import Sequence

_HELP = """\
Serve models over HTTP with the Open Inference Protocol.

  modelyard-runtime serve ./model.pt2          serve a file from this machine
  modelyard-runtime serve ./model.onnx --port 9000
  modelyard-runtime serve --models ./models    serve every model of a folder: <name>/<version>/<file>
  modelyard-runtime serve                      serve /models/$MODELYARD_MODEL_NAME, as in a pod
  modelyard-runtime check ./model.pt2          load, warm and ask it without a port, for CI

Formats: torch.export and AOTInductor (.pt2), TorchScript (.pt), ONNX (.onnx), XGBoost (.ubj, .json),
LightGBM (.txt), MLflow and Hugging Face folders, a handler.py with or without weights (.safetensors,
.pt), scikit-learn (.joblib, .pkl; these are pickles and need MODELYARD_ALLOW_PICKLE=true).

Every setting is an environment variable MODELYARD_*; see docs/reference/runtime-contract.md.
"""
_SERVE_HELP = """\
Once the log says "model ready":

  curl localhost:8080/v2/models/model                         what it takes and gives
  curl localhost:8080/v2/models/model/infer -d \\
    '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}'
  curl localhost:8082/metrics

SIGTERM drains: the server turns unready, answers what still comes for a while, then leaves.
"""
_CHECK_HELP = """\
Loads and warms the model as serve does, then asks it in JSON and in binary and compares the answers:

  modelyard-runtime check ./model.onnx
  modelyard-runtime check ./model.pt2 --requests samples.json   real requests (V2 JSON, one or a list)
  modelyard-runtime check ./model.pt2 --golden verify.json      and compare with recorded answers

Exits with 0 when every model answers, with 1 and the reason when one does not.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments; None takes the process's own.

    Returns:
        The exit code: 0 after a drain, 1 after a failed start, 2 for invalid settings.
    """
    arguments = _parser().parse_args(argv)
    if arguments.command == "check":
        configure_logging(logging.ERROR, sys.stderr)
    else:
        configure_logging()
    try:
        settings = RuntimeSettings(**_overrides(arguments))
    except ValidationError as error:
        failure = settings_failure(error)
        print(f"modelyard-runtime: {failure.message}", file=sys.stderr)  # noqa: T201 - a CLI's error
        log = os.environ.get("MODELYARD_TERMINATION_LOG", "/dev/termination-log")
        write_termination_message(Path(log), failure.as_document())
        return 2
    if arguments.command == "check":
        from modelyard_runtime.checking import check  # noqa: PLC0415 - --help needs no libraries

        return check(settings, arguments.requests)
    from modelyard_runtime.server import serve  # noqa: PLC0415 - as above

    return serve(settings)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("modelyard-runtime", description=_HELP, formatter_class=raw)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve", help="serve a model", description=_SERVE_HELP, formatter_class=raw
    )
    check = commands.add_parser(
        "check",
        help="load and ask a model, without a port",
        description=_CHECK_HELP,
        formatter_class=raw,
    )
    for command in (serve, check):
        command.add_argument(
            "path",
            nargs="?",
            type=Path,
            help="a model file or folder; default: the model repository",
        )
        command.add_argument("--name", help="served name; default: the file's name")
        command.add_argument("--models", type=Path, help="a folder of models; takes all of them")
    serve.add_argument(
        "--control",
        choices=("none", "explicit"),
        help="explicit opens the API that loads and unloads models; default none",
    )
    serve.add_argument("--port", type=int, help="HTTP port; default 8080")
    check.add_argument(
        "--requests", type=Path, action="append", default=[], help="a file with requests to send"
    )
    check.add_argument(
        "--golden", type=Path, action="append", help="a file with requests and their answers"
    )
    return parser


_SETTINGS: Final = {
    "models": "model_repository",
    "control": "control",
    "name": "model_name",
    "port": "http_port",
    "golden": "verification_files",
}
"""Flag → the setting that it wins over."""


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Translate flags into settings; a flag wins over the environment."""
    overrides: dict[str, Any] = {}
    if arguments.path is not None:
        overrides["model_path"] = arguments.path
        if "MODELYARD_MODEL_NAME" not in os.environ:
            overrides["model_name"] = _name_of(arguments.path.resolve())
    given = vars(arguments)
    for flag, setting in _SETTINGS.items():
        if given.get(flag) is not None:
            overrides[setting] = given[flag]
    return overrides


def _name_of(path: Path) -> str:
    """Name a model as its ``model.yaml`` does, or else like its file or folder."""
    stated = stated_name(path)
    if stated is not None:
        return stated
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem if path.is_file() else path.name)
    return name.strip("._-") or "model"


if __name__ == "__main__":
    sys.exit(main())
