"""Tensors through shared memory: every datatype comes out as it went in, and nothing is left."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard_runtime.engine.process_protocol import Failure, Refused
from modelyard_runtime.engine.protocol import DTYPES
from modelyard_runtime.engine.shared_memory import Inbox, Letter, Outbox
from modelyard_runtime.errors import (
    InferenceError,
    InvalidInputError,
    OverloadedError,
    Reason,
    StartupError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelyard_runtime.engine.protocol import Array, Arrays


class Wire:
    """An outbox and an inbox, joined by a real connection."""

    def __init__(self) -> None:
        self._ends = Pipe()
        self.outbox = Outbox(self._ends[0])
        self.inbox = Inbox(self._ends[1])

    def carry(self, *arrays: Array, copy: bool = True) -> Arrays:
        """Send arrays and receive them."""
        self._ends[0].send(self.outbox.put(arrays))
        self.outbox.flush()
        letter: Letter = self._ends[1].recv()
        return self.inbox.take(letter, copy=copy)

    def close(self) -> None:
        """Close both ends."""
        self.outbox.close()
        for end in self._ends:
            end.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


@pytest.mark.parametrize("datatype", sorted(set(DTYPES) - {"BYTES"}))
@pytest.mark.parametrize("shape", [(3, 5), (), (0, 4), (1,)])
def test_every_datatype_and_shape_comes_out_as_it_went_in(
    wire: Wire, datatype: str, shape: tuple[int, ...]
) -> None:
    sent = np.random.default_rng(0).integers(0, 2, shape).astype(DTYPES[datatype])
    (got,) = wire.carry(sent)
    assert got.dtype == sent.dtype
    assert got.shape == shape
    assert got.flags.c_contiguous
    assert got.flags.writeable
    assert (got == sent).all()


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_bytes_come_out_as_they_went_in(words: list[bytes]) -> None:
    wire = Wire()
    sent = np.empty(len(words), dtype=np.object_)
    sent[:] = words
    number = np.arange(3)
    got, after = wire.carry(sent, number)
    wire.close()
    assert got.tolist() == words
    assert got.dtype == np.object_
    assert (after == number).all()


def test_all_that_is_text_arrives_as_bytes(wire: Wire) -> None:
    (got,) = wire.carry(np.array([["ä", "b"]]))
    assert got.tolist() == [["ä".encode(), b"b"]]


def test_memory_grows_on_demand_and_is_used_again(wire: Wire) -> None:
    small = np.arange(10.0)
    large = np.arange(100_000.0)
    for sent in (small, large, small, large * 2, np.tile(large, 5)):
        (got,) = wire.carry(sent)
        assert (got == sent).all()
    letters = [wire.outbox.put([small]) for _ in range(3)]
    assert {letter.capacity for letter in letters} == {0}


def test_arrays_that_are_not_contiguous_are_written_in_order(wire: Wire) -> None:
    sent = np.arange(12).reshape(3, 4).T[::2]
    (got,) = wire.carry(sent)
    assert (got == sent).all()


def test_a_copy_outlives_the_next_tensors_and_a_view_costs_none(wire: Wire) -> None:
    (kept,) = wire.carry(np.zeros(4), copy=True)
    (view,) = wire.carry(np.ones(4), copy=False)
    wire.carry(np.full(4, 2.0))
    assert kept.tolist() == [0, 0, 0, 0]
    assert view.tolist() == [2, 2, 2, 2]


def test_a_dtype_without_a_word_in_the_protocol_is_refused(wire: Wire) -> None:
    with pytest.raises(TypeError, match="complex128"):
        wire.outbox.put([np.array([1j])])


def test_no_descriptor_is_left() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    wire = Wire()
    for size in (10, 100_000, 1_000_000):
        wire.carry(np.zeros(size))
    wire.outbox.put([np.zeros(10_000_000)])  # new memory that nobody is told of
    wire.close()
    del wire
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_errors_meant_for_the_caller_stay_what_they_are() -> None:
    error = Failure.of(InvalidInputError("x is odd"), ()).error()
    assert isinstance(error, InvalidInputError)
    assert str(error) == "x is odd"
    assert isinstance(Failure.of(MemoryError("no room"), ()).error(), MemoryError)
    # One that needs more than a message cannot be made again.
    full = Failure.of(OverloadedError("full", retry_after_s=1), ()).error()
    assert isinstance(full, InferenceError)


def test_other_errors_keep_their_traceback_for_the_log() -> None:
    def broken() -> None:
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError) as caught:
        broken()
    error = Failure.of(caught.value, ()).error()
    assert "ZeroDivisionError: by zero" in str(error)
    assert "in broken" in str(error)


def test_a_failed_start_keeps_its_reason() -> None:
    failure = StartupError(Reason.OUT_OF_MEMORY, "too large", hint="Buy more.", retryable=True)
    again = Refused.because(failure).error()
    assert again.as_document() == failure.as_document()
