"""How long a batch of n rows will run, learned from those that have run."""

from __future__ import annotations

from typing import Final

_NEWEST: Final = 0.05
"""Share of the newest batch: about the last twenty count."""
_TRUSTED: Final = 8
"""Batches after which a prediction is evidence."""
_OUTLIER: Final = 3.0
"""A time counts for at most so many times its prediction: a pause is not the model's doing."""
_RIDGE: Final = 0.01
"""Pull towards proportional time where the batches hardly differ in size, of their mean size²."""


class RunTimes:
    """A straight line ``fixed_s + row_s · rows`` through recent batches.

    Least squares with exponentially weighted moments; neither coefficient is ever negative. A single
    pause moves the line little, and a model that has become slower for good moves it within some
    twenty batches.

    References:
        Finch, "Incremental calculation of weighted mean and variance" (2009), §9.
    """

    def __init__(self) -> None:
        self._rows = 0.0
        self._time_s = 0.0
        self._variance = 0.0
        self._covariance = 0.0
        self.batches = 0
        self.line = (0.0, 0.0)
        """``fixed_s`` and ``row_s``, in one piece, for readers in other threads."""

    @property
    def trusted(self) -> bool:
        """Whether enough has been measured to act on a prediction."""
        return self.batches >= _TRUSTED

    def add(self, rows: int, run_s: float) -> None:
        """Learn from one batch.

        Args:
            rows: Rows that the model saw, padding included.
            run_s: In seconds.
        """
        if self.batches >= _TRUSTED:
            fixed_s, row_s = self.line
            run_s = min(run_s, _OUTLIER * (fixed_s + row_s * rows))
        self.batches += 1
        share = max(_NEWEST, 1 / self.batches)
        rows_off, time_off = rows - self._rows, run_s - self._time_s
        mean_rows = self._rows = self._rows + share * rows_off
        mean_s = self._time_s = self._time_s + share * time_off
        self._variance = (1 - share) * (self._variance + share * rows_off * rows_off)
        self._covariance = (1 - share) * (self._covariance + share * rows_off * time_off)
        proportional = mean_s / mean_rows
        ridge = _RIDGE * mean_rows * mean_rows
        row_s = (self._covariance + ridge * proportional) / (self._variance + ridge)
        row_s = min(max(row_s, 0.0), proportional)
        self.line = (mean_s - row_s * mean_rows, row_s)

    def predict_s(self, rows: int, batches: int = 1) -> float:
        """Predict how long rows will run.

        Args:
            rows: In all.
            batches: In how many batches.

        Returns:
            Seconds; 0 while nothing has been measured.
        """
        fixed_s, row_s = self.line
        return fixed_s * batches + row_s * rows
