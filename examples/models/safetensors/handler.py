"""A bag of words with saved weights: texts in, the name of a class out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from modelyard_runtime import InvalidInput

WORDS = ["good", "bad", "fine", "awful"]
NAMES = np.array([b"positive", b"negative"], object)


class Bag(torch.nn.Module):
    """Counts of words → scores of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.score = torch.nn.Linear(len(WORDS), len(NAMES), bias=False)

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        """Score.

        Args:
            counts: ``(rows, words)``.

        Returns:
            ``(rows, classes)``.
        """
        return self.score(counts)

    def preprocess(self, request: Any, ctx: Any) -> dict[str, Any]:
        """Count the words of each text, before requests share a batch.

        Args:
            request: What the caller sent.
            ctx: What a hook may do.

        Returns:
            ``counts``.
        """
        texts = [text.decode(errors="replace").lower().split() for text in request.inputs["text"]]
        if not all(texts):
            raise InvalidInput("a text is empty")
        ctx.counter("texts_total", len(texts))
        return {"counts": np.array([[t.count(w) for w in WORDS] for t in texts], np.float32)}

    def postprocess(self, outputs: Any, ctx: Any) -> dict[str, Any]:
        """Name the likelier class.

        Args:
            outputs: What ``forward`` gave.
            ctx: What a hook may do.

        Returns:
            ``class``.
        """
        del ctx
        (scores,) = outputs.values()
        return {"class": NAMES[scores.argmax(axis=1)]}
