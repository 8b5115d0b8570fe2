"""Freeze windows: times in which no rollout starts or goes on.

A window begins when its cron expression matches in its own time zone, and lasts for its duration as
the clock of the wall sees it, so that a change to summer time does not move its end.

References:
    POSIX.1-2024, crontab: five fields; a day matches when either of two restricted fields of days does.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from modelyard_operator.spec import FreezeSpec

MONTHS: Final = (
    *("", "JAN", "FEB", "MAR", "APR", "MAY", "JUN"),  # from 1
    *("JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
)
WEEKDAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
SUNDAY_TOO: Final = 7
ANY: Final = "*"
_FIELDS: Final = 5


class InvalidFreezeError(ValueError):
    """The expression, or the time zone, is none; the message says what was expected."""


@dataclass(frozen=True)
class Cron:
    """A parsed cron expression.

    Attributes:
        minutes: From 0 to 59.
        hours: From 0 to 23.
        days: Of the month, from 1 to 31.
        months: From 1 to 12.
        weekdays: From 0, Sunday, to 6.
        either: Both kinds of days are restricted, so that one of them is enough.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse minute, hour, day of month, month and day of week.

        Raises:
            InvalidFreezeError: It does not have five fields, or one of them is out of its range.
        """
        fields = text.split()
        if len(fields) != _FIELDS:
            raise InvalidFreezeError(f"expected five fields, got {text!r}")
        minute, hour, day, month, weekday = fields
        weekdays = _parse_field("day of week", weekday, 0, SUNDAY_TOO, names=WEEKDAYS)
        return cls(
            minutes=_parse_field("minute", minute, 0, 59),
            hours=_parse_field("hour", hour, 0, 23),
            days=_parse_field("day of month", day, 1, 31),
            months=_parse_field("month", month, 1, 12, names=MONTHS),
            weekdays=frozenset(number % SUNDAY_TOO for number in weekdays),
            either=not day.startswith(ANY) and not weekday.startswith(ANY),
        )

    def matches(self, day: date) -> bool:
        """Tell whether the expression matches at some time of a day."""
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % SUNDAY_TOO in self.weekdays
        return of_month or of_week if self.either else of_month and of_week

    def last_before(self, moment: datetime, reach: timedelta) -> datetime | None:
        """Return the last match up to a moment, as the wall's clock has it; None without one.

        Args:
            moment: Local time, without a zone.
            reach: How far back is looked.
        """
        for back in range(reach.days + 2):
            day = moment.date() - timedelta(days=back)
            if self.matches(day):
                found = (start for start in self._backwards(day) if start <= moment)
                if last := next(found, None):
                    return last
        return None

    def _backwards(self, day: date) -> Iterator[datetime]:
        for hour in sorted(self.hours, reverse=True):
            for minute in sorted(self.minutes, reverse=True):
                yield datetime.combine(day, time(hour, minute))


def frozen_until(windows: Iterable[FreezeSpec], now: datetime) -> datetime | None:
    """Return when the window ends that is open now; None while none is.

    Args:
        windows: ``spec.rollout.freeze``; one that does not parse is never open: the spec is then
            refused as a whole.
        now: Current time, in UTC.
    """
    ends = [end for window in windows if (end := _end(window, now)) is not None]
    return max(ends, default=None)


def check_freeze(window: FreezeSpec) -> None:
    """Check what the schema cannot.

    Raises:
        InvalidFreezeError: The expression or the time zone is none.
    """
    Cron.parse(window.cron)
    _zone(window.time_zone)


def _end(window: FreezeSpec, now: datetime) -> datetime | None:
    try:
        cron, zone = Cron.parse(window.cron), _zone(window.time_zone)
    except InvalidFreezeError:
        return None
    local = now.astimezone(zone).replace(tzinfo=None)
    duration = timedelta(minutes=window.duration_minutes)
    start = cron.last_before(local, duration)
    if start is None or start + duration <= local:
        return None
    return (start + duration).replace(tzinfo=zone).astimezone(UTC)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidFreezeError(f"expected an IANA time zone, got {name!r}") from error


def _parse_field(
    what: str, text: str, low: int, high: int, *, names: tuple[str, ...] = ()
) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        spread, slash, step_text = part.partition("/")
        first, dash, last = spread.partition("-")
        if spread == ANY:
            begin, end = low, high
        else:
            begin = _number(what, first, names)
            end = _number(what, last, names) if dash else (high if slash else begin)
        step = _number(what, step_text, ()) if slash else 1
        if not low <= begin <= end <= high or step < 1:
            raise InvalidFreezeError(f"{what}: expected {low} to {high}, got {part!r}")
        found.update(range(begin, end + 1, step))
    return frozenset(found)


def _number(what: str, text: str, names: tuple[str, ...]) -> int:
    if text.upper() in names and text:
        return names.index(text.upper())
    if not text.isdecimal():
        raise InvalidFreezeError(f"{what}: expected a number, got {text!r}")
    return int(text)
