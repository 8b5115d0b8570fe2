"""What a loaded model is to the rest of the runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = tuple[Array, ...]
"""One array per declared tensor, in the order of the declaration."""

ANY: Final = "ANY"
"""Datatype of an input whose artifact does not say what it takes."""

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""Open Inference Protocol datatype → numpy dtype; strings travel as object arrays of ``bytes``."""

DATATYPES: Final[Mapping[np.dtype[Any], str]] = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor that a model takes or gives.

    Attributes:
        name: Its name on the wire.
        datatype: A key of ``DTYPES``, or ``ANY``.
        shape: Sizes; -1 is any size. None: the artifact does not say.
        casts: Whether other numeric datatypes are taken too, and converted.
        fill: Inputs: what stands in for it where a request leaves it out; None: no request may.
        labels: Outputs: what the positions of the last axis mean; empty: nobody knows.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    casts: bool = False
    fill: float | bool | str | None = None
    labels: tuple[str, ...] = ()

    def as_document(self) -> dict[str, Any]:
        """Return the tensor metadata of the Open Inference Protocol.

        Returns:
            ``name``, ``datatype`` and ``shape``; an undeclared shape reads ``[-1]``.
        """
        shape = [-1] if self.shape is None else list(self.shape)
        return {"name": self.name, "datatype": self.datatype, "shape": shape}


@dataclass(frozen=True, slots=True)
class Optimization:
    """What was done to make a model faster.

    Attributes:
        chosen: Its name, or ``none``.
        gain: How many times faster a forward pass is, over the smallest and the largest batch.
    """

    chosen: str = "none"
    gain: float = 1.0


@dataclass(frozen=True, slots=True)
class Outage:
    """Why a model that has been ready does not answer.

    Attributes:
        reason: A sentence for people.
        unavailable: Whether it is more than a moment.
        final: Whether nobody tries to bring it back.
    """

    reason: str
    unavailable: bool = False
    final: bool = False


class Model(Protocol):
    """A model in memory, called from one thread at a time."""

    format: str
    """A word of ``MODELYARD_MODEL_FORMAT``, never ``Auto``."""
    platform: str
    """The platform of the Open Inference Protocol's model metadata."""
    device: str
    """``cpu`` or ``cuda``."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    """Whether the first axis of every tensor counts rows that do not depend on one another."""
    max_rows: int | None
    """Most rows that the artifact allows in one call; None is no limit."""
    optimization: Optimization = Optimization()
    """What ``optimize`` has chosen."""

    @property
    def restarts(self) -> bool:
        """Whether it ends a batch that hangs, and starts itself again."""
        return False

    @property
    def outage(self) -> Outage | None:
        """Why it does not answer at present; None: it does."""
        return None

    def predict(self, inputs: Arrays) -> Arrays:
        """Run one forward pass.

        Args:
            inputs: Writable C-contiguous arrays in the order of ``inputs``.

        Returns:
            Arrays in the order of ``outputs``, in host memory.

        Raises:
            Exception: Whatever the model raises.
        """
        ...  # pragma: no cover

    def optimize(self, samples: Callable[[], Sequence[Arrays]], *, mode: str) -> None:
        """Become faster without answering otherwise, and say how; most formats know no way to.

        Args:
            samples: Makes inputs that the model answers: the first of one row, the last of a full
                batch, others between.
            mode: ``Auto`` or ``Off``: whether to try what nobody has asked for.
        """
        del samples, mode

    def example(self) -> Arrays | None:
        """Give one row that the model is known to take, where not every value will do.

        Returns:
            One array per input; None: anything of the declared shapes will do.
        """
        return None

    def close(self) -> None:
        """Let go of what the garbage collector would not: processes, device memory."""
        return
