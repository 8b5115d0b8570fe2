"""Tensors from one process to another through memory that both have mapped.

The memory has no name: it is a file that only file descriptors lead to, and it is gone with the last
process that holds it, however that one ends. So there is nothing to clean up, and the size of
``/dev/shm``, which is 64 MiB in many containers, does not matter.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from modelyard_runtime.engine.protocol import DATATYPES, DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from modelyard_runtime.engine.protocol import Array, Arrays

_ALIGNMENT: Final = 64
_SMALLEST_BYTES: Final = 1 << 16
_LENGTH: Final = np.dtype(np.int64)
_STRINGS: Final = frozenset("USTO")
"""numpy's kinds of strings and objects."""


class Place(NamedTuple):
    """Where one tensor lies in the shared memory.

    Attributes:
        datatype: A key of ``DTYPES``.
        shape: Its sizes.
        offset: Its first byte.
        nbytes: Its bytes.
    """

    datatype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class Letter(NamedTuple):
    """What is said over the connection about tensors in the shared memory.

    Attributes:
        places: Where they lie.
        capacity: Bytes of the memory, when it is new and its descriptor follows; else 0.
    """

    places: tuple[Place, ...]
    capacity: int


class Outbox:
    """The writing end: one batch of tensors at a time, each over the one before.

    Args:
        connection: Where descriptors of new memory are sent.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._memory: mmap.mmap | None = None
        self._fresh: int | None = None

    def put(self, arrays: Sequence[Array]) -> Letter:
        """Write tensors.

        Args:
            arrays: Any arrays; strings are written as ``BYTES``.

        Returns:
            What to send to the other side, before ``flush``.

        Raises:
            TypeError: The protocol has no datatype for an array.
            OSError: There is no memory to be had.
        """
        packed = [_packed(array) for array in arrays]
        places, end = [], 0
        for datatype, array, flat in packed:
            start = -(-end // _ALIGNMENT) * _ALIGNMENT
            end = start + flat.nbytes
            places.append(Place(datatype, array.shape, start, flat.nbytes))
        memory, capacity = self._room(end)
        for place, (_, _, flat) in zip(places, packed, strict=True):
            target = np.ndarray(flat.shape, flat.dtype, buffer=memory, offset=place.offset)
            target[...] = flat
        return Letter(tuple(places), capacity)

    def flush(self) -> None:
        """Send the descriptor of new memory; the letter must have been sent."""
        if self._fresh is not None:
            reduction.send_handle(self._connection, self._fresh, None)
            os.close(self._fresh)
            self._fresh = None

    def close(self) -> None:
        """Let go of what was not sent; the memory goes with the last array that shows it."""
        self._memory = None
        if self._fresh is not None:
            os.close(self._fresh)
            self._fresh = None

    def _room(self, needed: int) -> tuple[mmap.mmap, int]:
        memory = self._memory
        if memory is not None and len(memory) >= needed:
            return memory, 0
        capacity = max(_SMALLEST_BYTES, 1 << (needed - 1).bit_length())
        self.close()
        self._fresh = _anonymous_file(capacity)
        self._memory = mmap.mmap(self._fresh, capacity)
        return self._memory, capacity


class Inbox:
    """The reading end.

    Args:
        connection: Where descriptors of new memory come from.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._memory: mmap.mmap | None = None

    def take(self, letter: Letter, *, copy: bool) -> Arrays:
        """Read tensors.

        Args:
            letter: What the other side said.
            copy: Whether they must stay when the next ones come; else they lie in the shared memory.

        Returns:
            Writable C-contiguous arrays; strings are objects of ``bytes``.
        """
        if letter.capacity:
            descriptor = reduction.recv_handle(self._connection)
            try:
                self._memory = mmap.mmap(descriptor, letter.capacity)
            finally:
                os.close(descriptor)
        return tuple(self._array(place, copy=copy) for place in letter.places)

    def close(self) -> None:
        """Let go of the memory; it goes with the last array that shows it."""
        self._memory = None

    def _array(self, place: Place, *, copy: bool) -> Array:
        dtype = DTYPES[place.datatype]
        if dtype.kind == "O":
            return self._strings(place)
        array: Array = np.ndarray(place.shape, dtype, buffer=self._memory, offset=place.offset)
        return array.copy() if copy else array

    def _strings(self, place: Place) -> Array:
        count = int(np.prod(place.shape, dtype=np.int64))
        lengths: Array = np.ndarray((count,), _LENGTH, buffer=self._memory, offset=place.offset)
        ends = (np.cumsum(lengths) + lengths.nbytes + place.offset).tolist()
        memory: Any = self._memory
        words: Array = np.empty(count, dtype=np.object_)
        words[:] = [
            memory[end - size : end] for end, size in zip(ends, lengths.tolist(), strict=True)
        ]
        return words.reshape(place.shape)


def _packed(array: Array) -> tuple[str, Array, Array]:
    """Give a tensor's datatype, itself, and what of it is written."""
    if array.dtype.kind not in _STRINGS:
        try:
            return DATATYPES[array.dtype.newbyteorder("=")], array, array
        except KeyError:
            raise TypeError(f"the protocol has no datatype for {array.dtype}") from None
    words = [_as_bytes(word) for word in array.reshape(-1).tolist()]
    lengths = np.fromiter(map(len, words), _LENGTH, len(words))
    flat = np.frombuffer(b"".join((lengths.tobytes(), *words)), np.uint8)
    return "BYTES", array, flat


def _as_bytes(word: object) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def _anonymous_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("modelyard-tensors")
    else:  # macOS: a file that is unlinked as soon as it is open
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, size)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
