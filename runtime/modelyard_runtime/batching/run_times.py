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
        # Mean rows, mean time, variance and covariance: in one piece, for readers in other threads.
        self._moments = (0.0, 0.0, 0.0, 0.0)
        self.batches = 0

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
        mean_rows, mean_s, variance, covariance = self._moments
        if run_s > _OUTLIER * mean_s and self.batches >= _TRUSTED:
            run_s = min(run_s, _OUTLIER * self.predict_s(rows))
        self.batches += 1
        share = max(_NEWEST, 1 / self.batches)
        rows_off, time_off = rows - mean_rows, run_s - mean_s
        self._moments = (
            mean_rows + share * rows_off,
            mean_s + share * time_off,
            (1 - share) * (variance + share * rows_off * rows_off),
            (1 - share) * (covariance + share * rows_off * time_off),
        )

    @property
    def mean_s(self) -> float:
        """Time of a recent batch on the average, in seconds."""
        return self._moments[1]

    @property
    def line(self) -> tuple[float, float]:
        """``fixed_s`` and ``row_s``; their sum over many batches is never too pessimistic."""
        mean_rows, mean_s, _, _ = moments = self._moments
        row_s, _ = _slopes(moments)
        return mean_s - row_s * mean_rows, row_s

    def predict_s(self, rows: int) -> float:
        """Predict how long one batch will run.

        Args:
            rows: Rows that the model will see.

        Returns:
            Seconds; 0 while nothing has been measured.
        """
        mean_rows, mean_s, _, _ = moments = self._moments
        above_s, below_s = _slopes(moments)
        return mean_s + (rows - mean_rows) * (above_s if rows > mean_rows else below_s)


def _slopes(moments: tuple[float, float, float, float]) -> tuple[float, float]:
    """Time of a row more than the mean, and of a row less, in seconds."""
    mean_rows, mean_s, variance, covariance = moments
    if not mean_rows:
        return 0.0, 0.0
    proportional = mean_s / mean_rows
    ridge = _RIDGE * mean_rows * mean_rows
    above_s = (covariance + ridge * proportional) / (variance + ridge)
    above_s = min(max(above_s, 0.0), proportional)
    below_s = covariance / (variance + ridge)
    return above_s, min(max(below_s, 0.0), above_s)
