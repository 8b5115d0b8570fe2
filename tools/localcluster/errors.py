"""What can go wrong, said in sentences that name the next step."""

from __future__ import annotations


class LocalClusterError(Exception):
    """The cluster tool cannot do what was asked; the message says why and what to do."""


class CommandError(LocalClusterError):
    """A program that the tool ran has failed; carries the end of its output."""
