"""Three models of the digits, trained on the spot: ``python -m demo.training FOLDER``."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import joblib
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from demo.digits import split
from demo.models import HELD_OUT_FILE, Trained, write_report

if TYPE_CHECKING:
    from demo.digits import Digits

BLACK: Final = 16.0
BATCH: Final = 64
PIXELS: Final = 64
CLASSES: Final = 10
SEED: Final = 0


class Linear(nn.Module):
    """One weight for each pixel and digit."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(PIXELS, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits ``(n, 10)`` of images ``(n, 64)``."""
        logits: torch.Tensor = self.layer(image / BLACK)
        return logits


class Convolutional(nn.Module):
    """Two layers of 3 x 3 filters, which see neighbouring pixels together."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 16, 64),
            nn.ReLU(),
            nn.Linear(64, CLASSES),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits ``(n, 10)`` of images ``(n, 64)``."""
        logits: torch.Tensor = self.layers(image / BLACK)
        return logits


def fit(model: nn.Module, train: Digits, *, epochs: int, learning_rate: float) -> None:
    """Train with Adam on the cross-entropy, in place."""
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    model.train()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(images)), BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            torch.autograd.backward(loss)
            optimizer.step()
    model.eval()


def accuracy_of(model: nn.Module, held_out: Digits) -> float:
    """Return the share of digits that the model names correctly."""
    with torch.inference_mode():
        answers = model(torch.from_numpy(held_out.images)).argmax(1).numpy()
    return float((answers == held_out.labels).mean())


def export(model: nn.Module, path: Path) -> None:
    """Write the model as a torch.export archive that takes any number of images."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    example = (torch.zeros(2, PIXELS),)
    program = torch.export.export(model, example, dynamic_shapes={"image": {0: batch}})
    torch.export.save(program, path)


def train_torch(key: str, folder: Path, *, epochs: int, learning_rate: float) -> Trained:
    """Train and export one of the two versions.

    Args:
        key: Where it goes below the bucket; version 1 is linear, the other one convolutional.
        folder: Stands for the bucket.
        epochs: Times that each image is looked at.
        learning_rate: Of Adam.
    """
    train, held_out = split()
    torch.manual_seed(SEED)
    started = time.monotonic()
    is_first = key.split("/")[1] == "1"
    model = Linear() if is_first else Convolutional()
    what = "a linear classifier" if is_first else "a small convolutional network"
    fit(model, train, epochs=epochs, learning_rate=learning_rate)
    seconds = time.monotonic() - started
    path = _place(folder, key)
    export(model, path)
    return Trained(key, what, accuracy_of(model, held_out), seconds, digest_of(path))


def train_sklearn(key: str, folder: Path) -> Trained:
    """Fit and save the scikit-learn model; it keeps its examples, so its bytes are always equal."""
    train, held_out = split()
    started = time.monotonic()
    model = KNeighborsClassifier(3, algorithm="brute").fit(train.images, train.labels)
    seconds = time.monotonic() - started
    path = _place(folder, key)
    joblib.dump(model, path)
    accuracy = float(model.score(held_out.images, held_out.labels))
    return Trained(key, "nearest neighbours, scikit-learn", accuracy, seconds, digest_of(path))


def digest_of(path: Path) -> str:
    """Return the digest of a file as ``spec.model.digest`` takes it."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def train_all(folder: Path) -> list[Trained]:
    """Train all three models and write them, the held-out digits and a report.

    Args:
        folder: Gets one file for each key of the bucket, and two beside them.
    """
    torch.set_num_threads(1)
    _, held_out = split()
    held_out.save(folder / HELD_OUT_FILE)
    trained = [
        train_torch("digits/1/model.pt2", folder, epochs=8, learning_rate=1e-2),
        train_torch("digits/2/model.pt2", folder, epochs=15, learning_rate=2e-3),
        train_sklearn("digits-knn/1/model.joblib", folder),
    ]
    write_report(folder, trained)
    return trained


def _place(folder: Path, key: str) -> Path:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    train_all(Path(sys.argv[1]))
