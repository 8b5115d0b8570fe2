"""A torch module behind the engine protocol, whatever it was loaded from."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import torch

from modelyard_runtime.engine.protocol import ANY, Model, TensorSpec
from modelyard_runtime.engine.torch_cuda import Staging
from modelyard_runtime.engine.torch_tensors import TORCH_DTYPES, as_array, as_tensor
from modelyard_runtime.errors import InferenceError, Reason, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Arrays

    Call = Callable[..., tuple[torch.Tensor, ...]]
    """One tensor per input → one tensor per output."""

_NARROW: Final = {"FP16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a model runs.

    Attributes:
        device: CPU or CUDA.
        threads: Compute threads of one operator; operators never run beside each other.
        dtype: ``Auto``, ``FP32``, ``FP16`` or ``BF16``: what it computes in.
        compile: Arguments of ``torch.compile``; None compiles nothing.
    """

    device: torch.device
    threads: int
    dtype: str = "Auto"
    compile: Mapping[str, Any] | None = None


class TorchModel(Model):
    """A callable of flat tensors behind the engine protocol.

    Args:
        module: Takes one tensor per input, returns one tensor per output; only a ``Flat`` can be
            made faster.
        inputs: What it takes.
        outputs: What it gives.
        kind: ``format`` and ``platform``.
        placement: Where it runs.
    """

    def __init__(
        self,
        module: Flat | Call,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        *,
        kind: tuple[str, str],
        placement: Placement,
    ) -> None:
        self.module = module if isinstance(module, Flat) else None
        self._call: Call = module
        self._placement = placement
        self._bounded: set[int] = set()
        self._narrow = _NARROW.get(placement.dtype)
        self._staging = None if placement.device.type == "cpu" else Staging(placement.device)
        self.inputs = inputs
        self.outputs = outputs
        self.format, self.platform = kind
        self.device = placement.device.type
        self.batched = False
        self.max_rows: int | None = None
        self.check: Callable[[Arrays], None] | None = None
        """What must hold of the inputs besides their shapes."""

    def predict(self, inputs: Arrays) -> Arrays:
        """Run one forward pass.

        Args:
            inputs: Writable C-contiguous arrays, one per input.

        Returns:
            One array per output, in host memory.

        Raises:
            InvalidInputError: The inputs do not fit each other.
            InferenceError: It returned more or fewer tensors than it should.
            RuntimeError: Whatever torch raises, the allocators' failures among them.
        """
        self._bound_threads()
        if self.check is not None:
            self.check(inputs)
        with torch.inference_mode():
            return self._run(inputs)

    def _run(self, inputs: Arrays) -> Arrays:
        tensors = self._to_device(inputs)
        with self._autocast():
            outputs = self._call(*tensors)
        if len(outputs) != len(self.outputs):
            raise InferenceError(
                f"forward returned {len(outputs)} tensors, expected {len(self.outputs)}"
            )
        if self._narrow is not None:
            outputs = tuple(map(self._widened, outputs, self.outputs))
        if self._staging is not None:
            return self._staging.to_host(outputs)
        return tuple(map(as_array, outputs))

    def optimize(self, samples: Callable[[], Sequence[Arrays]], *, mode: str) -> None:
        """Compile, where that is asked for; else choose by measurement what makes it faster.

        Args:
            samples: Makes inputs: the first of one row, the last of a full batch.
            mode: ``Auto``, or ``Off``: compiles only where that is asked for.
        """
        from modelyard_runtime.engine import torch_optimize  # noqa: PLC0415 - it knows this room

        compiles = self._placement.compile
        if self.module is None or (compiles is None and mode == "Off"):
            return
        made = samples()
        if not made:
            return
        self._bound_threads()
        with torch.inference_mode(), self._autocast():
            tensors = [self._to_device(sample) for sample in made]
            if compiles is not None:
                self._call, self.optimization = torch_optimize.compiled(
                    self.module, tensors, compiles
                )
            else:
                self._call, self.optimization = torch_optimize.optimized(
                    self.module,
                    tensors,
                    unlike=[tensors[at] for at in self._unlike(made)],
                    freezable=self._narrow is None and self.device == "cpu",
                )
        if self._call is not self.module:
            self.module = None  # its weights live on in what was made of it

    def _unlike(self, samples: Sequence[Arrays]) -> Sequence[int]:
        """Find two samples that differ in every axis of any size; one is special, so none has it."""
        axes = [
            (at, axis)
            for at, spec in enumerate(self.inputs)
            for axis, size in enumerate(spec.shape or ())
            if size == -1
        ]
        if not axes:
            return [len(samples) - 1]
        sizes = [[sample[at].shape[axis] for at, axis in axes] for sample in samples]
        for left, right in combinations(range(len(samples)), 2):
            pairs = list(zip(sizes[left], sizes[right], strict=True))
            if all(one != other and min(one, other) > 1 for one, other in pairs):
                return [left, right]
        return []

    def _to_device(self, inputs: Arrays) -> tuple[torch.Tensor, ...]:
        if self._staging is not None:
            return self._staging.to_device(inputs)
        return tuple(as_tensor(array) for array in inputs)

    def _bound_threads(self) -> None:
        thread = threading.get_ident()
        if thread not in self._bounded:
            # OpenMP keeps the bound per calling thread: without this, whoever runs the model after
            # the thread that loaded it would compute on every processor, and spin there.
            torch.set_num_threads(self._placement.threads)
            self._bounded.add(thread)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._narrow is None:
            return nullcontext()
        # The cache lasts for one call only, and must not be recorded in a CUDA graph.
        return torch.autocast(self.device, self._narrow, cache_enabled=False)

    def _widened(self, output: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
        """Give callers the declared datatype, whatever the model computes in."""
        if output.dtype is not self._narrow:
            return output
        return output.to(torch.float32 if spec.datatype == ANY else TORCH_DTYPES[spec.datatype])


class Flat(torch.nn.Module):
    """A module behind tensors in a fixed order.

    Args:
        module: Takes tensors, by position or by name; returns a tensor, or a tuple or mapping of
            tensors.
        positional: How many of the tensors are passed by position.
        keywords: Names of the others.
        outputs: Names of the outputs, for a module that returns a mapping; None: it returns none,
            or one that is in the right order.
    """

    def __init__(
        self,
        module: Any,
        *,
        positional: int,
        keywords: tuple[str, ...] = (),
        outputs: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        self.inner = module
        self._positional = positional
        self._keywords = keywords
        self._outputs = outputs
        self.training = False  # of this wrapper; exported programs refuse to be told

    def around(self, module: Any) -> Flat:
        """Put another module behind the same tensors.

        Args:
            module: It takes and returns what this one's does.

        Returns:
            The module behind tensors.
        """
        return Flat(
            module,
            positional=self._positional,
            keywords=self._keywords,
            outputs=self._outputs,
        )

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the module.

        Args:
            *tensors: One per input.

        Returns:
            One tensor per output.

        Raises:
            InferenceError: A declared output is not in the mapping that the module returned.
        """
        named = dict(zip(self._keywords, tensors[self._positional :], strict=True))
        answer = self.inner(*tensors[: self._positional], **named)
        if isinstance(answer, torch.Tensor):
            return (answer,)
        if isinstance(answer, dict):
            names = self._outputs or tuple(answer)
            if not answer.keys() >= set(names):
                raise InferenceError(f"forward returned {list(answer)}, declared are {list(names)}")
            return tuple(answer[name] for name in names)
        return tuple(answer)


def choose_device(wanted: str) -> torch.device:
    """Choose where to run.

    Args:
        wanted: ``Auto``, ``CPU`` or ``CUDA``.

    Returns:
        The device; ``Auto`` is CUDA where there is one.

    Raises:
        StartupError: ``DeviceUnavailable``.
    """
    if wanted == "CPU":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if wanted == "CUDA":
        raise StartupError(
            Reason.DEVICE_UNAVAILABLE,
            "CUDA is asked for and torch finds no device",
            hint="Request a GPU (spec.accelerator) and use an image with a CUDA build of torch.",
        )
    return torch.device("cpu")


def require_dtype(path: Path, module: torch.nn.Module, placement: Placement) -> None:
    """Refuse to widen an artifact whose code is fixed to the dtype of its weights.

    Args:
        path: Its file, for the message.
        module: The module.
        placement: What it is to compute in.

    Raises:
        StartupError: ``InvalidSettings``.
    """
    saved = {each.dtype for each in module.parameters() if each.is_floating_point()}
    narrow = sorted(str(dtype) for dtype in saved & {torch.float16, torch.bfloat16})
    if placement.dtype == "FP32" and narrow:
        raise StartupError(
            Reason.INVALID_SETTINGS,
            f"dtype: FP32 is asked for, {path.name} was saved in {narrow[0]}",
            hint="Save the model in float32, or leave dtype out.",
        )


def invalid_artifact(path: Path, why: str, *, hint: str) -> StartupError:
    """Say that a file is not what it should be.

    Args:
        path: The file.
        why: What is wrong with it.
        hint: What to do.

    Returns:
        ``InvalidArtifact``.
    """
    return StartupError(Reason.INVALID_ARTIFACT, f"{path.name}: {why}", hint=hint)


def brief(error: Exception) -> str:
    """Put torch's errors, which are pages long, into one line.

    Args:
        error: What torch raised.

    Returns:
        The error's class and its first line.
    """
    line = _first_line(error)
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else ""
