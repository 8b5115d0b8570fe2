"""What the runtime is measured against: a bare server, and what people write by hand."""

from __future__ import annotations

import os
from typing import Any


def create_hello() -> Any:
    """Return the least that an ASGI server can do with a request: read it, answer a constant."""
    body = b"x" * 200

    async def hello(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"application/json"), (b"content-length", b"200")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return hello


def create_naive() -> Any:
    """Return the twenty lines that people write first: FastAPI, lists, one request at a time."""
    import torch  # noqa: PLC0415 - not for the bare server
    from fastapi import FastAPI  # noqa: PLC0415
    from pydantic import BaseModel  # noqa: PLC0415

    torch.set_num_threads(1)
    model = torch.export.load(os.environ["BENCH_MODEL"]).module()

    class Rows(BaseModel):
        data: list[list[float]]

    # Local classes as annotations are only resolved when they are real objects.
    Rows.__module__ = __name__
    globals()["Rows"] = Rows
    app = FastAPI()

    @app.post("/infer")
    async def infer(rows: Rows) -> dict[str, Any]:
        with torch.inference_mode():
            return {"data": model(torch.tensor(rows.data)).tolist()}

    return app
