"""How long a batch of n rows will run, learned from those that have run."""

from __future__ import annotations

from typing import Final

_MEMORY: Final = 0.95
"""Weight that a batch loses with each one after it: about the last twenty count."""
_TRUSTED: Final = 8
"""Batches after which a prediction is evidence."""
_OUTLIER: Final = 3.0
"""A time counts for at most so many times its prediction: a pause is not the model's doing."""
_RIDGE: Final = 0.01
"""Pull towards proportional time where the batches hardly differ in size, of their mean size²."""


class RunTimes:
    """A straight line ``fixed_s + row_s · rows`` through recent batches.

    Weighted least squares with exponential forgetting; neither coefficient is ever negative. A single
    pause moves the line little, and a model that has become slower for good moves it within some
    twenty batches.
    """

    def __init__(self) -> None:
        self._weight = 0.0
        self._rows = 0.0
        self._time = 0.0
        self._rows_rows = 0.0
        self._rows_time = 0.0
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
        if self.trusted:
            run_s = min(run_s, _OUTLIER * self.predict_s(rows))
        self.batches += 1
        self._weight = _MEMORY * self._weight + 1
        self._rows = _MEMORY * self._rows + rows
        self._time = _MEMORY * self._time + run_s
        self._rows_rows = _MEMORY * self._rows_rows + rows * rows
        self._rows_time = _MEMORY * self._rows_time + rows * run_s
        mean_rows, mean_s = self._rows / self._weight, self._time / self._weight
        variance = max(0.0, self._rows_rows / self._weight - mean_rows * mean_rows)
        covariance = self._rows_time / self._weight - mean_rows * mean_s
        proportional = mean_s / mean_rows
        ridge = _RIDGE * mean_rows * mean_rows
        row_s = (covariance + ridge * proportional) / (variance + ridge)
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
