"""TorchServe's handler around the model, one compute thread."""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from architectures import build


class Handler:
    """The two methods that TorchServe calls."""

    def initialize(self, context: Any) -> None:
        """Load."""
        del context
        torch.set_num_threads(1)
        self.model = build(os.environ["BENCH_MODEL"])

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        """Answer a batch of requests."""
        del context
        rows = []
        for request in data:
            body = request.get("body") or request.get("data")
            document = body if isinstance(body, dict) else json.loads(body)
            rows.append(torch.tensor(document["data"]))
        with torch.inference_mode():
            answers = self.model(torch.cat(rows))
        return [{"data": [answer]} for answer in answers.tolist()]
