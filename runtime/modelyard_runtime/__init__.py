"""The Modelyard runtime: a model server that speaks the Open Inference Protocol."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from modelyard_runtime.errors import InvalidInputError as InvalidInput

__all__ = ["InvalidInput", "__version__"]

try:
    _VERSION = version("modelyard")
except PackageNotFoundError:  # run from a source tree that was never installed
    _VERSION = "0.0.0"

__version__: Final = _VERSION
