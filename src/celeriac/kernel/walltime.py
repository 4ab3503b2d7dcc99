"""Wall clocks and instants: what a time zone's clock shows when, and when it shows something.

Instants are unix seconds.  A wall time is the seconds that a unix clock would show if the zone's
wall clock were UTC: an instant plus the offset that is in force.

Owns: offset_at, first_change, instant_of.  May import: the standard library only.
"""

from __future__ import annotations

import datetime as _dt

DAY = 86_400


def offset_at(zone: _dt.tzinfo, instant: float) -> int:
    """Return the seconds that `zone` is ahead of UTC at an instant."""
    offset = _dt.datetime.fromtimestamp(instant, zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def first_change(zone: _dt.tzinfo, start: int, end: int) -> int | None:
    """Return the first second after `start`, `end` at the latest, with another offset; or None.

    No zone has ever changed its offset there and back within a day, so that one look a day is enough.
    """
    if zone is _dt.UTC:
        return None
    before = offset_at(zone, start)
    while start < end:
        later = min(start + DAY, end)
        if offset_at(zone, later) != before:
            while later - start > 1:
                middle = (start + later) // 2
                if offset_at(zone, middle) == before:
                    start = middle
                else:
                    later = middle
            return later
        start = later
    return None


def instant_of(zone: _dt.tzinfo, wall: int) -> int:
    """Return when a wall clock shows `wall`: the first time where it does so twice.

    Where it never does, because the clock is put forward over it: the end of that gap.
    """
    before, after = offset_at(zone, wall - DAY), offset_at(zone, wall + DAY)
    found = [
        wall - offset for offset in {before, after} if offset_at(zone, wall - offset) == offset
    ]
    if found:
        return min(found)
    change = first_change(zone, wall - max(before, after) - DAY, wall - min(before, after) + DAY)
    return change if change is not None else wall - after
