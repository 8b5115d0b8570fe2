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
"""How much the sizes of batches must vary before their times tell a slope, of their mean size²."""


class RunTimes:
    """A straight line ``fixed_s + row_s · rows`` through recent batches.

    Least squares with exponentially weighted moments; neither coefficient is ever negative. A single
    pause moves the line little, and a model that has become slower for good moves it within some
    twenty batches. Where the batches hardly differ in size, a larger one is taken to need
    proportionally longer, and a smaller one as long as they.

    References:
        Finch, "Incremental calculation of weighted mean and variance" (2009), §9.
    """

    def __init__(self) -> None:
        self._rows = 0.0
        self._time_s = 0.0
        self._variance = 0.0
        self._covariance = 0.0
        self.batches = 0
        # Mean rows and time, slope above and below: in one piece, for readers in other threads.
        self._fit = (0.0, 0.0, 0.0, 0.0)

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
            run_s = min(run_s, _OUTLIER * self.predict_s(rows))
        self.batches += 1
        share = max(_NEWEST, 1 / self.batches)
        rows_off, time_off = rows - self._rows, run_s - self._time_s
        mean_rows = self._rows = self._rows + share * rows_off
        mean_s = self._time_s = self._time_s + share * time_off
        self._variance = (1 - share) * (self._variance + share * rows_off * rows_off)
        self._covariance = (1 - share) * (self._covariance + share * rows_off * time_off)
        proportional = mean_s / mean_rows
        ridge = _RIDGE * mean_rows * mean_rows
        above_s = (self._covariance + ridge * proportional) / (self._variance + ridge)
        below_s = self._covariance / (self._variance + ridge)
        above_s = min(max(above_s, 0.0), proportional)
        self._fit = (mean_rows, mean_s, above_s, min(max(below_s, 0.0), above_s))

    @property
    def line(self) -> tuple[float, float]:
        """``fixed_s`` and ``row_s``; their sum over many batches is never too pessimistic."""
        mean_rows, mean_s, row_s, _ = self._fit
        return mean_s - row_s * mean_rows, row_s

    def predict_s(self, rows: int) -> float:
        """Predict how long one batch will run.

        Args:
            rows: Rows that the model will see.

        Returns:
            Seconds; 0 while nothing has been measured.
        """
        mean_rows, mean_s, above_s, below_s = self._fit
        return mean_s + (rows - mean_rows) * (above_s if rows > mean_rows else below_s)
