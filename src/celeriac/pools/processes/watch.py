"""What the pool does not wait for for ever: processes that do not do what they must.

Nothing here is known to happen; but whatever it is that keeps a process from beginning, from taking
its work or from ending, the tasks behind it shall not wait for it.

Owns: Watch, Overdue.  Thread rule: belongs to the pool's I/O thread.  May import: pools.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from celeriac.pools.processes.member import Member

TAKE_WITHIN = 60.0
"""Seconds in which a child that runs nothing begins what it was given."""
END_WITHIN = 5.0
"""Seconds in which a child ends whose pipe has ended, and again in which the zygote tells of it."""
FORK_WITHIN = 30.0
"""Seconds in which the zygote forks."""
ORPHAN = 1.0
"""Seconds in which a child is dead whose zygote is."""
ROUND = 0.25
"""Seconds between two looks, while something is waited for."""


class Overdue(NamedTuple):
    """What is to be killed, and why."""

    child: Member | None
    """None: the zygote."""
    why: str


class Watch:
    """Measures what processes take, in seconds in which this one was awake itself.

    Time in which the whole machine or container stood still is nobody's fault.

    :param begin_within: seconds in which a child is ready; 0 for as many as it likes.
    """

    def __init__(self, begin_within: float) -> None:
        self._begin_within = begin_within or float("inf")
        self._last = time.monotonic()
        self.now = 1.0

    def tick(self) -> bool:
        """Go on, at least every `ROUND` while something is waited for; return whether to look."""
        real = time.monotonic()
        if real - self._last < ROUND / 2:
            return False
        self.now += min(real - self._last, 4 * ROUND)
        self._last = real
        return True

    def overdue(self, children: Iterable[Member]) -> Iterator[Overdue]:
        """Yield what is overdue; each once, or again after as long again."""
        for child in children:
            if (found := self._judge(child)) is not None:
                yield found

    def _judge(self, child: Member) -> Overdue | None:
        if child.gone_at:
            # Its end is told of as soon as it is dead: it lives without a pipe, or the zygote sleeps.
            if self.now - child.gone_at < END_WITHIN:
                return None
            child.gone_at = self.now
            if child.ending is None:
                return Overdue(child, "it has closed its pipe and does not end")
            return Overdue(None, f"it does not tell of the end of process {child.pid}")
        if not child.pid:
            if self.now - child.asked_at < FORK_WITHIN:
                return None
            child.asked_at = self.now
            return Overdue(None, f"it has forked nothing for {FORK_WITHIN:g} s")
        if not child.ready:
            if self.now - child.asked_at < self._begin_within or child.ending is not None:
                return None
            limit = f"{self._begin_within:g} s (worker_proc_alive_timeout)"
            return Overdue(child, f"it was not ready within {limit}")
        running, last, _, _ = child.slot.read()
        if running or not child.outstanding or last != child.idle[0]:
            child.idle = (last, self.now)
        elif self.now - child.idle[1] >= TAKE_WITHIN and child.ending is None:
            return Overdue(child, f"it has not begun what it was given within {TAKE_WITHIN:g} s")
        return None
