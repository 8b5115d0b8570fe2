"""How the libraries say that there is no memory left."""

from __future__ import annotations

from typing import Final

_WORDS: Final = (
    "out of memory",
    "can't allocate memory",
    "failed to allocate",
    "bad_alloc",
    "alloc_failed",  # cuBLAS and cuDNN
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an allocator's failure from other errors.

    Args:
        error: What a loader or a model raised.

    Returns:
        True for Python's, numpy's, torch's and ONNX Runtime's ways to say it.
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _WORDS)
