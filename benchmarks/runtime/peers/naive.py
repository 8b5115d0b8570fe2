"""The twenty lines that people write first: FastAPI, lists, one request at a time."""

from __future__ import annotations

import os
from typing import Any

import torch
from architectures import build
from fastapi import FastAPI
from pydantic import BaseModel

torch.set_num_threads(1)
model = build(os.environ["BENCH_MODEL"])
app = FastAPI()


class Rows(BaseModel):
    """A request."""

    data: list[Any]


@app.post("/infer")
async def infer(rows: Rows) -> dict[str, Any]:
    """Answer one request."""
    with torch.inference_mode():
        return {"data": model(torch.tensor(rows.data)).tolist()}
