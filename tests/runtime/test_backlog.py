"""Who waits, who goes next, and that nobody is passed over for ever."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard_runtime.batching.backlog import (
    DEFAULT_LEVEL,
    FAIR_TURN,
    Backlog,
    Batch,
    Entry,
    Stake,
)

CHAOS = os.environ.get("HYPOTHESIS_PROFILE") == "chaos"

Waiting = Entry[str, str]


class Answer:
    """Stands for the future that a caller waits for."""

    def __init__(self) -> None:
        self.gone = False

    def done(self) -> bool:
        return self.gone


def entry(
    item: str,
    *,
    key: str = "k",
    rows: int = 1,
    level: int = DEFAULT_LEVEL,
    deadline: float = 1000.0,
    turn: int = 0,
    since: float = 0.0,
) -> Waiting:
    stake = Stake(queued=1, nbytes=10)
    return Entry(item, key, rows, (level, turn, deadline), since, stake, cast("Any", Answer()))


def filled(*entries: Waiting) -> Backlog[str, str]:
    backlog: Backlog[str, str] = Backlog()
    for each in entries:
        backlog.add([each])
    return backlog


def names(batch: Batch[str, str] | float) -> str:
    assert isinstance(batch, Batch)
    return "".join(each.item for each in batch.entries)


def test_the_urgent_go_first_then_the_earliest_deadline_then_who_came_first() -> None:
    backlog = filled(
        entry("e", level=11),
        entry("c"),
        entry("d"),
        entry("b", deadline=500),
        entry("a", level=1, deadline=2000),
    )
    assert "".join(names(backlog.take(1, 0.0)) for _ in range(5)) == "abcde"
    assert not backlog
    assert (backlog.requests, backlog.rows, backlog.nbytes) == (0, 0, 0)


def test_the_cuts_of_a_large_request_take_turns_with_small_ones() -> None:
    backlog: Backlog[str, str] = Backlog()
    backlog.add([entry(name, turn=turn) for turn, name in enumerate("aef")])
    for name in "bcd":
        backlog.add([entry(name, since=1.0, deadline=2000.0)])
    backlog.add([entry("x", level=DEFAULT_LEVEL + 1)])
    assert "".join(names(backlog.take(1, 0.0)) for _ in range(7)) == "abcdefx"


def test_keys_take_turns_by_the_same_order_and_never_mix() -> None:
    backlog = filled(
        entry("a", key="x", deadline=5),
        entry("b", key="y", deadline=3),
        entry("c", key="x", deadline=4),
        entry("d", key="y", deadline=9),
    )
    assert names(backlog.take(8, 0.0)) == "bd"
    assert names(backlog.take(8, 0.0)) == "ca"


def test_a_batch_with_room_takes_the_less_urgent_along() -> None:
    backlog = filled(entry("b", level=20), entry("a", level=1))
    batch = backlog.take(8, 0.0)
    assert names(batch) == "ab"
    assert batch.trigger == "idle"


def test_a_batch_is_full_when_the_next_does_not_fit() -> None:
    backlog = filled(entry("a", rows=3), entry("b", rows=2))
    assert backlog.take(4, 0.0).trigger == "full"
    assert backlog.take(2, 0.0).trigger == "full"
    assert filled(entry("a", rows=9)).take(4, 0.0).rows == 9  # admitted before the cap fell


def test_who_has_expired_is_taken_out_and_never_computed() -> None:
    gone = entry("b")
    cast("Any", gone.answer).gone = True
    late = entry("a", deadline=1.0)
    backlog = filled(late, gone, entry("c"))
    assert names(backlog.take(8, 2.0)) == "c"
    assert not late.ran
    assert not late.queued
    assert not backlog


@pytest.mark.parametrize("key", ["k", "another"])
def test_a_stream_of_urgent_requests_starves_nobody(key: str) -> None:
    backlog = filled(entry("low", key=key, level=99, since=0.0))
    for at in range(1, FAIR_TURN + 1):
        for _ in range(3):
            backlog.add([entry("high", level=1, since=float(at))])
        if "low" in names(backlog.take(2, float(at))):
            assert at == FAIR_TURN
            return
    pytest.fail("passed over too often")


def test_a_full_group_leaves_before_one_that_may_still_fill() -> None:
    backlog = filled(entry("a", key="x"), entry("b", key="y"), entry("c", key="y"))

    def leave_by(oldest: float, deadline: float, rows: int) -> tuple[float, Any]:
        assert (deadline, rows) == (1000.0, 1)
        return oldest + 5.0, "delay"

    full = backlog.take_due(2, 1.0, leave_by)
    assert names(full) == "bc"
    assert isinstance(full, Batch)
    assert full.trigger == "full"
    assert backlog.take_due(2, 1.0, leave_by) == 4.0
    due = backlog.take_due(2, 5.0, leave_by)
    assert names(due) == "a"
    assert isinstance(due, Batch)
    assert due.trigger == "delay"


def test_what_goes_before_is_counted_by_rank() -> None:
    backlog = filled(
        entry("a", rows=2, deadline=5),
        entry("b", rows=3, deadline=9),
        entry("c", key="y", rows=4, level=1),
    )
    assert backlog.ahead_of((DEFAULT_LEVEL, 0, 7.0)) == (6, 2)
    assert backlog.ahead_of((1, 0, 7.0)) == (0, 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.sampled_from("xyz"),
            st.integers(1, 3),
            st.sampled_from([1, DEFAULT_LEVEL, DEFAULT_LEVEL, 30]),
            st.integers(1, 6),
            st.integers(0, 2),
        ),
        st.tuples(st.just("take"), st.integers(1, 5)),
        st.tuples(st.just("remove"), st.integers(0, 100)),
    ),
    max_size=80,
)


@pytest.mark.timeout(0 if CHAOS else 60)
@settings(max_examples=5000 if CHAOS else 150, deadline=None)
@given(steps=STEPS)
def test_everybody_leaves_once_in_order_and_within_bounds(steps: list[tuple[Any, ...]]) -> None:
    backlog: Backlog[str, str] = Backlog()
    waiting: list[Waiting] = []
    passed: dict[Waiting, int] = {}
    for now, step in enumerate([*steps, *[("take", 3)] * 200]):
        if step[0] == "add":
            _, key, rows, level, slack, turn = step
            new = entry(
                str(now),
                key=key,
                rows=rows,
                level=level,
                turn=turn,
                deadline=1e6 + slack,
                since=float(now),
            )
            passed[new] = FAIR_TURN * (len(waiting) + 1)
            waiting.append(new)
            backlog.add([new])
        elif step[0] == "remove" and waiting:
            gone = waiting.pop(step[1] % len(waiting))
            backlog.remove(gone)
            assert not gone.queued
        elif step[0] == "take" and backlog:
            batch = backlog.take(step[1], float(now))
            assert len({each.key for each in batch.entries}) == 1
            assert batch.rows == sum(each.rows for each in batch.entries)
            assert batch.rows <= step[1] or len(batch.entries) == 1
            rest = [each.rank for each in batch.entries[1:]]
            assert rest == sorted(rest)
            first = batch.entries[0]
            assert first in {
                min(waiting, key=lambda each: (each.rank, each.since)),
                min(waiting, key=lambda each: each.since),
            }
            for each in batch.entries:
                waiting.remove(each)
            for each in waiting:
                passed[each] -= 1
                assert passed[each] > 0
        assert backlog.requests == len(waiting)
        assert backlog.rows == sum(each.rows for each in waiting)
        assert backlog.nbytes == 10 * len(waiting)
    assert not backlog
    assert not waiting
