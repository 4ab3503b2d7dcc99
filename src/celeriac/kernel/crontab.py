"""The five fields of a crontab: how they are written, and the instants that they name.

Two ways of writing are known: Celery's (a day must match both day fields, ranges may wrap) and that
of cron (either of them where both are restricted, 7 is Sunday).  What happens when clocks are
changed is Debian's rule for both: a fixed time that a gap swallows comes right after it, one that
comes twice counts once, and where minute or hour begin with `*` the times follow the wall clock
minute by minute: none in a gap, both of those that come twice.

Owns: Field, FIELDS, parse_celery, parse_posix, CronTimes.  May import: kernel.
"""

from __future__ import annotations

import calendar as _calendar
import datetime as _dt
import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from celeriac.kernel.errors import CeleryError
from celeriac.kernel.walltime import DAY, first_change, instant_of, offset_at

EPOCH = _dt.date(1970, 1, 1).toordinal()
HORIZON = 41
"""Years after which the search ends: a leap day comes on the same weekday within 40."""

_DAYS = "sun mon tue wed thu fri sat".split()
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_LONG_DAYS = "sunday monday tuesday wednesday thursday friday saturday".split()
_LONG_MONTHS = (
    "january february march april may june july august september october november december".split()
)


class ParseException(CeleryError, ValueError):
    """A field of a crontab cannot be read."""


@dataclass(frozen=True, slots=True)
class Field:
    """One of the five: its name and its range."""

    name: str
    low: int
    high: int
    names: tuple[tuple[str, str], ...] = ()
    """Short and long names of its values, from `low` on."""

    def everything(self) -> frozenset[int]:
        """Return all its values."""
        return frozenset(range(self.low, self.high + 1))

    def named(self, text: str) -> int | None:
        """Return the value of a name: its first three letters or more."""
        word = text.lower()
        for number, (short, long) in enumerate(self.names, self.low):
            if word.startswith(short) and long.startswith(word):
                return number
        return None


MINUTE, HOUR = Field("minute", 0, 59), Field("hour", 0, 23)
DAY_OF_MONTH = Field("day_of_month", 1, 31)
MONTH_OF_YEAR = Field("month_of_year", 1, 12, tuple(zip(_MONTHS, _LONG_MONTHS, strict=True)))
DAY_OF_WEEK = Field("day_of_week", 0, 6, tuple(zip(_DAYS, _LONG_DAYS, strict=True)))

_PART = re.compile(r"(\*|[^-/*]+)(?:-([^-/]+))?(?:/(\d+))?")


def _number(text: str, field: Field, high: int) -> int:
    text = text.strip()
    if text.isascii() and text.isdigit():
        found: int | None = int(text)
    else:
        found = field.named(text)
    if found is None:
        raise ParseException(f"{field.name}: {text!r} is neither a number nor a name that it has")
    if not field.low <= found <= high:
        raise ParseException(f"{field.name}: {found} is not from {field.low} to {high}")
    return found


def _parse(text: str, field: Field, *, posix: bool) -> frozenset[int]:
    high = 7 if posix and field is DAY_OF_WEEK else field.high
    found: set[int] = set()
    for part in text.split(","):
        part = part.strip()
        match = _PART.fullmatch(part)
        if match is None or (match[1] == "*" and match[2]):
            raise ParseException(f"{field.name}: {part!r} in {text!r} cannot be read")
        step = int(match[3]) if match[3] else 1
        if step < 1:
            raise ParseException(f"{field.name}: a step of 0 in {text!r}")
        if match[1] == "*":
            values = range(field.low, field.high + 1)
            found.update(values[::step])
            continue
        first = _number(match[1], field, high)
        if match[2]:
            last = _number(match[2], field, high)
        elif match[3] and not posix:
            raise ParseException(f"{field.name}: a step needs a range or a star: {part!r}")
        else:
            last = high if match[3] else first
        if first <= last:
            chosen = [*range(first, last + 1)]
        elif posix:
            raise ParseException(f"{field.name}: the range {part!r} runs backwards")
        else:
            chosen = [*range(first, field.high + 1), *range(field.low, last + 1)]
        found.update(chosen[::step])
    if high != field.high and high in found:
        found = (found - {high}) | {field.low}
    return frozenset(found)


def parse_celery(spec: Any, field: Field) -> frozenset[int]:
    """Return the values of one field in Celery's forms: number, text, or several numbers.

    :raises ParseException: it cannot be read, or is out of range.
    :raises TypeError: it is of another type.
    """
    if isinstance(spec, str):
        return _parse(spec, field, posix=False)
    if isinstance(spec, bool) or not isinstance(spec, (int, Iterable)):
        raise TypeError(
            f"{field.name} cannot be {spec!r:.100}: a number, a text like '*/5', or several numbers"
        )
    found = frozenset({spec} if isinstance(spec, int) else spec)
    for number in found:
        if not isinstance(number, int):
            raise TypeError(f"{field.name} cannot hold {number!r:.100}: numbers are expected")
        if not field.low <= number <= field.high:
            raise ParseException(f"{field.name}: {number} is not from {field.low} to {field.high}")
    if not found:
        raise ParseException(f"{field.name} names no value: leave it out for every one")
    return found


_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def parse_posix(expression: str) -> CronTimes:
    """Return the times of a cron line: five fields, or a nickname such as `@daily`.

    :raises ParseException: it cannot be read, or never comes.
    """
    line = _NICKNAMES.get(expression.strip().lower(), expression)
    words = line.split()
    if len(words) != 5:
        raise ParseException(
            f"{expression!r} has {len(words)} fields: minute, hour, day of month, month, day of week"
        )
    minute, hour, day, month, weekday = words
    return CronTimes(
        minutes=_parse(minute, MINUTE, posix=True),
        hours=_parse(hour, HOUR, posix=True),
        days=_parse(day, DAY_OF_MONTH, posix=True),
        months=_parse(month, MONTH_OF_YEAR, posix=True),
        weekdays=_parse(weekday, DAY_OF_WEEK, posix=True),
        either_day=not (day.startswith("*") or weekday.startswith("*")),
        follows_wall=minute.startswith("*") or hour.startswith("*"),
    )


class CronTimes:
    """The instants that five fields name.

    :param either_day: a day need match only one of the two day fields.
    :param follows_wall: see this module: what a change of clocks does.
    :raises ParseException: no day ever matches, such as February 30.
    """

    def __init__(
        self,
        *,
        minutes: frozenset[int],
        hours: frozenset[int],
        days: frozenset[int],
        months: frozenset[int],
        weekdays: frozenset[int],
        either_day: bool,
        follows_wall: bool,
    ) -> None:
        self._seconds = sorted(3600 * hour + 60 * minute for hour in hours for minute in minutes)
        self._days, self._months, self._weekdays = days, months, weekdays
        self._either = either_day
        self._follows_wall = follows_wall
        longest = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
        if not either_day and all(min(days) > longest.get(month, 31) for month in months):
            raise ParseException(
                f"day_of_month {_listed(days)} never comes in month_of_year {_listed(months)}"
            )

    def next_after(self, instant: float, zone: _dt.tzinfo) -> int | None:
        """Return the first time after `instant` by the wall clock of `zone`; None if there is none."""
        start = int(instant // 1)
        return self._next_wall(start, zone) if self._follows_wall else self._next_fixed(start, zone)

    def _next_fixed(self, start: int, zone: _dt.tzinfo) -> int | None:
        # Later wall times never are earlier instants, so that the first hit is the next time.
        wall = self._match(start + offset_at(zone, start) + 1)
        while wall is not None:
            instant = instant_of(zone, wall)
            if instant > start:
                return instant
            wall = self._match(wall + 1)
        return None

    def _next_wall(self, start: int, zone: _dt.tzinfo) -> int | None:
        earliest = start + 1
        while True:
            offset = offset_at(zone, earliest)
            wall = self._match(earliest + offset)
            if wall is None:
                return None
            instant = wall - offset
            change = first_change(zone, earliest, min(instant, earliest + 2 * DAY))
            if change is not None:
                earliest = change
            elif instant <= earliest + 2 * DAY:
                return instant
            else:
                # No wall time before `wall` matches, whether clocks are changed meanwhile or not.
                earliest = instant - 2 * DAY

    def _match(self, wall: int) -> int | None:
        """Return the first matching wall time that is not before `wall`."""
        number, second = divmod(wall, DAY)
        day = _dt.date.fromordinal(EPOCH + number)
        if self._has(day):
            index = bisect_left(self._seconds, second)
            if index < len(self._seconds):
                return number * DAY + self._seconds[index]
        last = day.year + HORIZON
        while True:
            day += _dt.timedelta(days=1)
            if day.month not in self._months:
                day += _dt.timedelta(days=_calendar.monthrange(day.year, day.month)[1] - day.day)
            elif self._has(day):
                return (day.toordinal() - EPOCH) * DAY + self._seconds[0]
            if day.year > last:
                return None

    def _has(self, day: _dt.date) -> bool:
        if day.month not in self._months:
            return False
        of_month, of_week = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        return of_month or of_week if self._either else of_month and of_week


def _listed(numbers: frozenset[int]) -> str:
    return ",".join(map(str, sorted(numbers)))
