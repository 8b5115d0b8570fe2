"""Engines in processes of their own, of a handler that fails in every way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime.artifacts import find_artifact
from modelyard_runtime.config import ModelConfig
from modelyard_runtime.engine.process_engine import ProcessModel
from modelyard_runtime.engine.process_protocol import Start
from testkit.runtime_processes import WAIT_S

if TYPE_CHECKING:
    from pathlib import Path

HANDLER: Final = """
import os, signal, time
import numpy as np
from modelyard_runtime.errors import InvalidInputError as InvalidInput

{top}

class Model:
    def predict(self, x, ctx):
        value = x.reshape(-1)[0]
        if value == 1:
            raise InvalidInput("one is not taken")
        if value == 2:
            raise ZeroDivisionError("two")
        if value == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        if value == 4:
            time.sleep(600)
        if value == 5:
            raise RuntimeError("CUDA error: device-side assert triggered")
        if value == 6:
            ctx.counter("seen_total", 2)
            ctx.counter("modelyard_mine")
        return x * 10 + np.float32((value == 7) * os.getpid())
"""


class Lab:
    """Starts models of ``HANDLER``, and knows what must be left of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counted: list[tuple[str, float]] = []
        self.models: list[ProcessModel] = []

    def start(self, top: str = "", **more: Any) -> Start:
        """Write the handler and say what to load."""
        (self.folder / "handler.py").write_text(HANDLER.format(top=top))
        tensors = [{"name": "x", "dtype": "FP32", "shape": [-1, 1]}]
        config = ModelConfig.model_validate({"inputs": tensors, "threads": 1, **more})
        return Start(find_artifact(self.folder, model_format="Custom"), config)

    def model(self, top: str = "") -> ProcessModel:
        """Start and warm a model."""
        model = ProcessModel(
            self.start(top), hang_s=WAIT_S, count=lambda *pair: self.counted.append(pair)
        )
        self.models.append(model)
        model.warm(max_rows=4)
        return model


def supervisors() -> list[threading.Thread]:
    """The threads that watch engines."""
    return [each for each in threading.enumerate() if each.name == "engine-supervisor"]
