"""The data: 1,797 scans of handwritten digits, and which of them no model sees in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

HELD_OUT: Final = 500
SEED: Final = 7

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Digits:
    """Images and what they show.

    Attributes:
        images: float32 ``(n, 64)``, 8 x 8 pixels row by row, 0 (white) to 16 (black).
        labels: int64 ``(n,)``, the digits.
    """

    images: Array
    labels: Array

    def save(self, path: Path) -> None:
        """Write both arrays to one ``.npz`` file."""
        np.savez(path, images=self.images, labels=self.labels)

    @classmethod
    def load(cls, path: Path) -> Digits:
        """Read what ``save`` has written."""
        with np.load(path) as arrays:
            return cls(arrays["images"], arrays["labels"])


def split() -> tuple[Digits, Digits]:
    """Return the digits to train on and those held out, the same ones every time.

    Returns:
        Train (1,297) and held-out (500), with equal shares of each digit.

    References:
        E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    # Here and not above: the client reads a file and has no use for scikit-learn.
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    images, labels = load_digits(return_X_y=True)
    train, held_out, train_labels, held_out_labels = train_test_split(
        images.astype(np.float32), labels, test_size=HELD_OUT, stratify=labels, random_state=SEED
    )
    return Digits(train, train_labels), Digits(held_out, held_out_labels)
