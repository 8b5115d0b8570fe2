"""Secrets out of texts that other programs wrote, before a status or an Event shows them."""

import re
from typing import Final

_SECRETS: Final = (
    # user:password@ of an address, then everything behind its question mark
    (re.compile(r"(?<=://)[^/\s@]+@"), "…@"),
    (re.compile(r"(\w+://[^\s?\"']+)\?[^\s\"']+"), r"\1?…"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), r"\1 …"),
    (
        re.compile(
            r"\b([\w-]*(?:password|passwd|secret|token|api[-_]?key|access[-_]?key(?:[-_]?id)?|signature))"
            r"([\"']?\s*[=:]\s*[\"']?)[^\s\"',}]+",
            re.IGNORECASE,
        ),
        r"\1\2…",
    ),
    # keys that give themselves away: AWS, Hugging Face, JWT
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), "…"),
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}\b"), "…"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), "…"),
)


def redact(text: str) -> str:
    """Return a text with everything that looks like a secret replaced by an ellipsis."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
