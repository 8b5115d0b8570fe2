"""What a GPU needs: few and large copies, and no launch of every kernel by itself.

Nothing here asks for a GPU but what must: the rest is the same on the CPU, where it is tested.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

from modelyard_runtime.engine.torch_tensors import as_array, as_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from modelyard_runtime.engine.protocol import Arrays
    from modelyard_runtime.engine.torch_engine import Call

    Tensors = tuple[torch.Tensor, ...]
    Replay = Callable[[], None]
    Capture = Callable[[Call, Tensors], tuple[Replay, Tensors]]
    """Record a call on fixed inputs: what repeats it, and where it then puts its answers."""

_ALIGNMENT: Final = 256
"""In bytes; as the CUDA allocator aligns what it gives, which kernels rely on."""
_WARM_UPS: Final = 3
"""Calls before a capture, so that libraries have made up their minds and their workspaces."""


class Staging:
    """Moves a batch between arrays and a device, in one copy each way.

    All inputs are put side by side into one pinned buffer, and so are all outputs. The copy to the
    device runs on a stream of its own; the model's stream waits for it there, and not the thread.

    Args:
        device: Where the model runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        self._copied = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]
        self._rooms: dict[str, torch.Tensor] = {}

    def to_device(self, arrays: Arrays) -> Tensors:
        """Copy a batch's inputs to the device.

        Args:
            arrays: C-contiguous.

        Returns:
            One tensor per array, usable on the current stream.
        """
        tensors = [as_tensor(array) for array in arrays]
        places, total = side_by_side(tensors)
        if self._copied is not None:
            self._copied.synchronize()  # the buffer may still be on its way
        room = self._room("inputs", total)
        for tensor, place in zip(tensors, places, strict=True):
            room[place].copy_(_bytes(tensor))
        packed = self._sent(room)
        return tuple(
            packed[place].view(tensor.dtype).view(tensor.shape)
            for tensor, place in zip(tensors, places, strict=True)
        )

    def to_host(self, outputs: Tensors) -> Arrays:
        """Copy a batch's outputs from the device, and wait for them.

        Args:
            outputs: On the device.

        Returns:
            One array per output, in memory that is the caller's.
        """
        places, total = side_by_side(outputs)
        packed = torch.empty(total, dtype=torch.uint8, device=self._device)
        for output, place in zip(outputs, places, strict=True):
            packed[place].copy_(_bytes(output))
        room = self._room("outputs", total)
        room.copy_(packed, non_blocking=True)
        if self._stream is not None:
            torch.cuda.current_stream(self._device).synchronize()
        own = room.clone()  # the buffer belongs to the next batch
        return tuple(
            as_array(own[place].view(output.dtype).view(output.shape))
            for output, place in zip(outputs, places, strict=True)
        )

    def _sent(self, room: torch.Tensor) -> torch.Tensor:
        if self._stream is None or self._copied is None:
            return room.clone()
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            packed = room.to(self._device, non_blocking=True)
            self._copied.record(self._stream)
        current.wait_event(self._copied)
        packed.record_stream(current)  # its memory is not given away before this stream is done
        return packed

    def _room(self, name: str, size: int) -> torch.Tensor:
        """Return a pinned buffer; it only ever grows."""
        room = self._rooms.get(name)
        if room is None or room.numel() < size:
            grown = 1 << max(size - 1, 1).bit_length()
            pinned = self._stream is not None
            room = self._rooms[name] = torch.empty(grown, dtype=torch.uint8, pin_memory=pinned)
        return room[:size]


def side_by_side(tensors: Sequence[torch.Tensor]) -> tuple[list[slice], int]:
    """Find each tensor's place in one buffer.

    Args:
        tensors: Of any dtypes.

    Returns:
        The bytes that each takes, every one aligned, and the bytes in all.
    """
    places, at = [], 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        places.append(slice(at, at + size))
        at += math.ceil(size / _ALIGNMENT) * _ALIGNMENT
    return places, at


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


class GraphedCall:
    """A call whose kernels were recorded once for some batch sizes, and are launched as one.

    A batch is run as the smallest recorded one that holds it; the rows beyond it hold what was
    there before, and are cut off. Batches of another shape, or larger ones, run unrecorded.

    Args:
        call: What is recorded. Rows do not depend on one another.
        example: Inputs of the largest batch, on the device.
        buckets: Rows of the batches to record.
        capture: Records; on the CPU, tests give another one.
    """

    def __init__(
        self, call: Call, example: Tensors, buckets: Sequence[int], capture: Capture
    ) -> None:
        self._call = call
        self._inner = _inner(example)
        self._recorded: Mapping[int, tuple[Tensors, Replay, Tensors]] = {
            # The largest one first: the others then fit into its memory.
            rows: _record(call, tuple(each[:rows].clone() for each in example), capture)
            for rows in sorted(buckets, reverse=True)
        }
        self._buckets = sorted(buckets)

    def __call__(self, *tensors: torch.Tensor) -> Tensors:
        """Answer a batch.

        Args:
            *tensors: One per input, ``(rows, …)``.

        Returns:
            One tensor per output, ``(rows, …)``, valid until the next call.
        """
        rows = tensors[0].shape[0] if tensors[0].ndim else 0
        bucket = next((size for size in self._buckets if size >= rows > 0), None)
        if bucket is None or _inner(tensors) != self._inner:
            return self._call(*tensors)
        inputs, replay, outputs = self._recorded[bucket]
        for fixed, tensor in zip(inputs, tensors, strict=True):
            fixed[:rows].copy_(tensor)
        replay()
        return tuple(output[:rows] for output in outputs)


def powers_of_two(most: int) -> list[int]:
    """List the batch sizes to record: at most half of a batch is then padding.

    Args:
        most: Rows of the largest batch.

    Returns:
        1, 2, 4, … and ``most``.
    """
    return sorted({*(1 << bit for bit in range(most.bit_length())), most})


def capture_graph(call: Call, inputs: Tensors) -> tuple[Replay, Tensors]:
    """Record a call's kernels as a CUDA graph.

    Args:
        call: What is recorded; it must not wait for the device, nor depend on values.
        inputs: Their memory is read by every replay.

    Returns:
        What launches the graph, and the memory of its outputs.

    Raises:
        RuntimeError: The call does what cannot be recorded.

    References:
        PyTorch documentation, "CUDA semantics", "CUDA Graphs".
    """
    side = torch.cuda.Stream(inputs[0].device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(inputs[0].device))
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            call(*inputs)
    torch.cuda.current_stream(inputs[0].device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = call(*inputs)
    return graph.replay, outputs


def _record(call: Call, inputs: Tensors, capture: Capture) -> tuple[Tensors, Replay, Tensors]:
    replay, outputs = capture(call, inputs)
    rows = inputs[0].shape[0]
    if any(output.shape[:1] != (rows,) for output in outputs):
        raise RuntimeError(f"an output's first axis does not count the {rows} rows")
    return inputs, replay, outputs


def _inner(tensors: Sequence[torch.Tensor]) -> list[tuple[torch.Size, torch.dtype]]:
    return [(tensor.shape[1:], tensor.dtype) for tensor in tensors]
