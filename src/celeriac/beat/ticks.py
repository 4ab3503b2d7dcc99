"""Which ticks an entry owes: the one place where missed ones are made up for, or are not.

Owns: Owed, owed, tick_id.  Knows no store and no clock: `now` comes in.
May import: kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from celeriac.kernel.ids import child_id
from celeriac.kernel.schedules import Schedule

MOST = 500
"""Ticks of one entry that are sent at a time; the rest follow at once."""


@dataclass(frozen=True, slots=True)
class Owed:
    """The ticks to send now, and the one to come."""

    ticks: tuple[float, ...]
    next_at: float | None


def owed(schedule: Schedule, at: float, now: float, misfire: str, grace: float) -> Owed:
    """Return what an entry whose tick was due at `at` owes at `now`.

    :param misfire: "once": one run for all that were missed.  "all": each of them.  "skip": only the
        last, and only where it is not later than `grace` seconds.
    """
    if misfire == "all":
        ticks = [at]
        while (following := schedule.next_after(ticks[-1])) is not None and following <= now:
            if len(ticks) == MOST:
                break
            ticks.append(following)
        return Owed(tuple(ticks), following)
    if misfire == "skip":
        last: float | None = at
        if now - at > grace:
            last = schedule.first_after(at, now - grace)
        if last is None or last > now:
            return Owed((), last)
        while (following := schedule.next_after(last)) is not None and following <= now:
            last = following
        return Owed((last,), following)
    # The tick that is in the store, not the last one missed: every beat agrees on it.
    return Owed((at,), schedule.first_after(at, now))


def tick_id(scope: str, name: str, at: float) -> str:
    """Return the task id of a tick, the same whoever sends it."""
    return child_id(f"beat/{scope}/{name}", repr(at))
