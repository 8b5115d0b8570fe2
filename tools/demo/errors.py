"""What ends the demo early, said in sentences that name the next step."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on; the message says why and where to look."""
