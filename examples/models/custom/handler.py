"""A model that is plain Python: how alike two words are."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

import numpy as np

from modelyard_runtime import InvalidInput


class Likeness:
    """Made once, when the model is loaded; ``kwargs`` of ``model.yaml`` are its arguments.

    Args:
        ignore_case: Whether ``A`` is ``a``.
    """

    def __init__(self, *, ignore_case: bool = False) -> None:
        self._ignore_case = ignore_case

    def predict(self, left: Any, right: Any) -> dict[str, Any]:
        """Compare words.

        Args:
            left: Array ``(rows,)`` of ``bytes``.
            right: As ``left``.

        Returns:
            ``ratio``: array ``(rows,)``, 1 for equal words.
        """
        pairs = [(self._word(a), self._word(b)) for a, b in zip(left, right, strict=True)]
        ratios = [SequenceMatcher(None, a, b).ratio() for a, b in pairs]
        return {"ratio": np.array(ratios, np.float32)}

    def _word(self, given: bytes) -> str:
        try:
            word = given.decode()
        except UnicodeDecodeError:
            raise InvalidInput("a word is not UTF-8") from None
        return word.lower() if self._ignore_case else word
