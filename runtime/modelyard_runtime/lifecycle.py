"""Where the process stands between its start and its end."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.errors import StartupError

_log = structlog.stdlib.get_logger(__name__)


class State(StrEnum):
    """The states of the contract, in the order in which they are passed."""

    DOWNLOADING = "Downloading"
    VERIFYING = "Verifying"
    STARTING = "Starting"
    LOADING = "Loading"
    WARMING = "Warming"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"


_NEXT: Final[Mapping[State, frozenset[State]]] = {
    State.DOWNLOADING: frozenset({State.VERIFYING, State.FAILED}),
    State.VERIFYING: frozenset({State.FAILED}),
    State.STARTING: frozenset({State.LOADING, State.DRAINING, State.FAILED}),
    State.LOADING: frozenset({State.WARMING, State.DRAINING, State.FAILED}),
    State.WARMING: frozenset({State.READY, State.DRAINING, State.FAILED}),
    State.READY: frozenset({State.DRAINING}),
    State.DRAINING: frozenset(),
    State.FAILED: frozenset(),
}


class Lifecycle:
    """The current state, and the only way to change it.

    Args:
        state: The state to begin in.
    """

    def __init__(self, state: State = State.STARTING) -> None:
        self._state = state
        self._failure: StartupError | None = None

    @property
    def state(self) -> State:
        """The current state."""
        return self._state

    @property
    def failure(self) -> StartupError | None:
        """Why the state is ``FAILED``; None in every other state."""
        return self._failure

    def advance(self, state: State) -> bool:
        """Move on to ``state`` if it may follow the current one.

        Args:
            state: The state to enter.

        Returns:
            False when it may not follow; the state is then unchanged. A model that finishes
            loading while the process already drains is no error.
        """
        if state not in _NEXT[self._state]:
            return False
        _log.info("state changed", state=str(state), previous=str(self._state))
        self._state = state
        return True

    def fail(self, failure: StartupError) -> None:
        """Enter ``FAILED`` because of ``failure``.

        Args:
            failure: What ended the start.
        """
        if self.advance(State.FAILED):
            self._failure = failure
