"""The one place where time comes from, so that tests can move it.

Owns: Clock, SystemClock, ManualClock, LocalZone, LOCAL.
May import: the standard library only.
"""

from __future__ import annotations

import datetime as dt
import time as _time
from typing import Protocol


class Clock(Protocol):
    """What the engine asks for the time."""

    def time(self) -> float:
        """Return the wall clock in unix seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...


class SystemClock:
    """The machine's clocks."""

    time = staticmethod(_time.time)
    monotonic = staticmethod(_time.monotonic)


class ManualClock:
    """A clock that stands still until it is moved.

    :param start: unix seconds at which it begins.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._mono = 1_000.0

    def time(self) -> float:
        """Return the wall clock in unix seconds."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self._mono

    def advance(self, seconds: float) -> None:
        """Move both clocks on.

        :raises ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"a clock cannot be advanced by {seconds} s")
        self._now += seconds
        self._mono += seconds


SYSTEM_CLOCK = SystemClock()


class LocalZone(dt.tzinfo):
    """The machine's own time zone, as it is at each date."""

    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta | None:
        """Return how far a date is before UTC."""
        return None if when is None else self._there(when).utcoffset()

    def dst(self, when: dt.datetime | None) -> dt.timedelta | None:
        """Return how far a date is moved by summer time."""
        if when is None:
            return None
        moved = _time.localtime(self._there(when).timestamp()).tm_isdst > 0
        return dt.timedelta(seconds=_time.timezone - _time.altzone if moved else 0)

    def tzname(self, when: dt.datetime | None) -> str | None:
        """Return the zone's short name at a date."""
        return "local" if when is None else self._there(when).tzname()

    def fromutc(self, when: dt.datetime) -> dt.datetime:
        """Return a date of UTC in this zone."""
        there = when.replace(tzinfo=dt.UTC).astimezone()
        found = there.replace(tzinfo=self)
        # The second of two equal hours, where a clock was put back.
        return found if found.utcoffset() == there.utcoffset() else found.replace(fold=1)

    @staticmethod
    def _there(when: dt.datetime) -> dt.datetime:
        return when.replace(tzinfo=None).astimezone()

    def __str__(self) -> str:
        return "local"

    def __repr__(self) -> str:
        return "LocalZone()"

    def __reduce__(self) -> tuple[type[LocalZone], tuple[()]]:
        return LocalZone, ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalZone)

    def __hash__(self) -> int:
        return hash(LocalZone)


LOCAL = LocalZone()
