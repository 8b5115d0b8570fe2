"""LitServe with batches of up to 32, one worker, one compute thread."""

from __future__ import annotations

import os
import sys
from typing import Any

import litserve
import torch
from architectures import build


class Api(litserve.LitAPI):
    """The hooks of LitServe."""

    def setup(self, device: str) -> None:
        """Load."""
        del device
        torch.set_num_threads(1)
        self.model = build(os.environ["BENCH_MODEL"])

    def decode_request(self, request):  # noqa: ANN001, ANN201 - an annotation would be taken for a schema
        """Read one request."""
        return torch.tensor(request["data"])

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Join requests."""
        return torch.cat(inputs)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Answer a batch."""
        with torch.inference_mode():
            return self.model(x)

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        """Part the answers."""
        return list(output)

    def encode_response(self, output: torch.Tensor) -> dict[str, Any]:
        """Write one answer."""
        return {"data": output.tolist()}


if __name__ == "__main__":
    wait_s = float(os.environ.get("BENCH_WAIT_MS", "1")) / 1000
    api = Api(max_batch_size=32, batch_timeout=wait_s)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="error",
        generate_client_file=False,
    )
