"""The one place where time comes from, so that tests can move it.

Owns: Clock, SystemClock, ManualClock.
May import: the standard library only.
"""

from __future__ import annotations

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
