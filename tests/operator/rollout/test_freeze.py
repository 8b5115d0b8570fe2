from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard_operator.rollout.freeze import (
    Cron,
    InvalidFreezeError,
    check_freeze,
    frozen_until,
)
from modelyard_operator.spec import FreezeSpec

WEEKEND = FreezeSpec(cron="0 18 * * 5", duration_minutes=62 * 60, time_zone="Europe/Berlin")
"""From Friday 18:00 to Monday 08:00 in Berlin."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-01-02T16:59:59", None),  # Friday, 17:59:59 in Berlin
        ("2026-01-02T17:00:00", "2026-01-05T07:00:00"),
        ("2026-01-04T12:00:00", "2026-01-05T07:00:00"),
        ("2026-01-05T06:59:59", "2026-01-05T07:00:00"),
        ("2026-01-05T07:00:00", None),
        ("2026-07-03T16:00:00", "2026-07-06T06:00:00"),  # summer time
        ("2026-03-28T12:00:00", "2026-03-30T06:00:00"),  # over the change to it
    ],
)
def test_a_weekend_is_frozen_as_the_clock_of_the_wall_sees_it(now: str, until: str | None) -> None:
    found = frozen_until([WEEKEND], at(now))
    assert found == (at(until) if until else None)
    assert found is None or found.tzinfo is UTC, "as status has it"


def test_the_longest_of_several_windows_counts() -> None:
    daily = FreezeSpec(cron="0 0 * * *", duration_minutes=60)
    longer = FreezeSpec(cron="30 0 * * *", duration_minutes=120)
    assert frozen_until([daily, longer], at("2026-01-01T00:45:00")) == at("2026-01-01T02:30:00")
    assert frozen_until([], at("2026-01-01T00:45:00")) is None


@pytest.mark.parametrize(
    ("cron", "now", "open_"),
    [
        ("*/15 9-17 * * MON-FRI", "2026-01-05T09:16:00", True),
        ("*/15 9-17 * * MON-FRI", "2026-01-05T09:25:00", False),
        ("*/15 9-17 * * MON-FRI", "2026-01-04T09:16:00", False),
        ("0 0 1,15 * *", "2026-01-15T00:05:00", True),
        ("0 0 1,15 * *", "2026-01-16T00:05:00", False),
        ("0 0 24-26 DEC *", "2026-12-25T00:05:00", True),
        ("0 0 13 * 5", "2026-01-13T00:05:00", True),  # a Tuesday: the day of the month is enough
        ("0 0 13 * 5", "2026-01-16T00:05:00", True),  # and so is a Friday
        ("0 0 13 * 5", "2026-01-17T00:05:00", False),
        ("0 0 * * 7", "2026-01-04T00:05:00", True),  # Sunday has two numbers
        ("0 0 30 2 *", "2026-03-01T00:05:00", False),  # never
    ],
)
def test_the_usual_forms_of_an_expression(cron: str, now: str, open_: bool) -> None:  # noqa: FBT001
    window = FreezeSpec(cron=cron, duration_minutes=10)
    assert (frozen_until([window], at(now)) is not None) is open_


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("0 18 * *", "five fields"),
        ("60 18 * * *", "minute: expected 0 to 59, got '60'"),
        ("0 24 * * *", "hour: expected 0 to 23, got '24'"),
        ("0 0 0 * *", "day of month: expected 1 to 31, got '0'"),
        ("0 0 * 13 *", "month: expected 1 to 12, got '13'"),
        ("0 0 * * FOO", "day of week: expected a number, got 'FOO'"),
        ("0 0 * * 5-1", "day of week: expected 0 to 7, got '5-1'"),
        ("*/0 * * * *", "minute: expected 0 to 59, got '*/0'"),
        ("0, * * * *", "minute: expected a number, got ''"),
        ("-1 * * * *", "minute: expected a number, got ''"),
        ("1-x * * * *", "minute: expected a number, got 'x'"),
        ("*/x * * * *", "minute: expected a number, got 'x'"),
    ],
)
def test_what_is_no_expression(cron: str, says: str) -> None:
    window = FreezeSpec(cron=cron, duration_minutes=10)
    with pytest.raises(InvalidFreezeError, match=says.replace("*", r"\*")):
        check_freeze(window)
    assert frozen_until([window], at("2026-01-01T00:00:00")) is None


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "/etc/passwd"])
def test_what_is_no_time_zone(zone: str) -> None:
    with pytest.raises(InvalidFreezeError, match="IANA time zone"):
        check_freeze(FreezeSpec(cron="0 0 * * *", duration_minutes=1, time_zone=zone))


@settings(deadline=None)
@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    weekday=st.integers(0, 6),
    moment=st.datetimes(datetime.fromisoformat("2026-01-01"), datetime.fromisoformat("2026-12-31")),
)
def test_the_last_match_is_the_one_that_a_look_at_every_day_finds(
    minute: int, hour: int, weekday: int, moment: datetime
) -> None:
    cron = Cron.parse(f"{minute} {hour} * * {weekday}")
    days = (moment - timedelta(days=back) for back in range(9))
    starts = [day.replace(hour=hour, minute=minute, second=0, microsecond=0) for day in days]
    fitting = [s for s in starts if s.isoweekday() % 7 == weekday and s <= moment]
    assert cron.last_before(moment, timedelta(days=7)) == max(fitting)


def sets(cron: Cron) -> list[set[int]]:
    return [set(one) for one in (cron.minutes, cron.hours, cron.days, cron.months, cron.weekdays)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7 8 9 10 3", [{7}, {8}, {9}, {10}, {3}]),
        ("*/20 20-23/2 30/1 jan,MAR sun,6", [{0, 20, 40}, {20, 22}, {30, 31}, {1, 3}, {0, 6}]),
        ("0-59/30 0 31 12 5-7", [{0, 30}, {0}, {31}, {12}, {5, 6, 0}]),
    ],
)
def test_an_expression_is_five_sets_of_numbers(text: str, expected: list[set[int]]) -> None:
    assert sets(Cron.parse(text)) == expected
    assert Cron.parse(text).either
    every = Cron.parse("* * * * *")
    assert sets(every) == [set(range(*one)) for one in ((60,), (24,), (1, 32), (1, 13), (7,))]
    assert not every.either
    assert not Cron.parse("0 0 1 * */2").either
    assert not Cron.parse("0 0 */2 * 1").either


def test_the_last_match_may_lie_as_far_back_as_a_window_is_long() -> None:
    monday = Cron.parse("0 23 * * 1")
    moment = datetime.fromisoformat("2026-01-08T00:00:00")  # a Thursday
    started = datetime.fromisoformat("2026-01-05T23:00:00")
    assert monday.last_before(moment, timedelta(days=2)) == started
    assert monday.last_before(moment, timedelta(days=1)) is None
    assert monday.last_before(started, timedelta(0)) == started
    early = started - timedelta(minutes=1)
    assert monday.last_before(early, timedelta(days=6)) == started - timedelta(days=7)
    often = Cron.parse("0,30 6,18 * * *")
    assert often.last_before(datetime.fromisoformat("2026-01-08T18:29:00"), timedelta(0)) == (
        datetime.fromisoformat("2026-01-08T18:00:00")
    )
    assert often.last_before(datetime.fromisoformat("2026-01-08T17:00:00"), timedelta(0)) == (
        datetime.fromisoformat("2026-01-08T06:30:00")
    )
