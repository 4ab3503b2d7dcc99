"""Rate limits: Celery's notation and a token bucket.

Owns: parse_rate, TokenBucket.  May import: kernel.
"""

from __future__ import annotations

import math
from typing import Any

from celeriac.kernel.errors import ImproperlyConfigured

_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}
_ROUNDING = 1e-6
"""Seconds by which a take may be early: `now + wait(now)` is rounded and must be enough."""


def parse_rate(rate: str | float | None) -> float:
    """Return tasks per second of "10/s", "100/m", "1000/h" or a number; 0 means no limit.

    :raises ImproperlyConfigured: it is none of these.
    """
    if rate in (None, False, ""):
        return 0.0
    count: Any = rate
    per = "s"
    if isinstance(rate, str):
        count, _, unit = rate.partition("/")
        per = unit.strip() or "s"
    try:
        if isinstance(count, bool):
            raise TypeError
        found = float(count) / _PER[per]
    except (KeyError, TypeError, ValueError):
        found = -1.0
    if not (0.0 <= found < math.inf):  # also False for NaN
        raise ImproperlyConfigured(
            f"rate_limit cannot be {rate!r}: '10/s', '100/m', '1000/h' or a number per second"
        )
    return found


class TokenBucket:
    """Lets `rate` through in a second, and up to `burst` at once after a quiet time.

    :param rate: tokens per second.
    :param burst: tokens that can be saved up.
    :raises ValueError: such a bucket would never let anything through.
    """

    __slots__ = ("burst", "rate", "_next")

    def __init__(self, rate: float, burst: float = 1.0) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"a bucket needs a rate over 0 and a burst of 1: {rate}, {burst}")
        self.rate, self.burst = rate, burst
        # One instant says all: when the next token is there.  Counting tokens instead adds up
        # rounding until a take fails after its own wait.
        self._next = -math.inf

    def take(self, now: float) -> bool:
        """Take a token; False where there is none.  `now` is in monotonic seconds."""
        # A token is never further off than this, unless the clock has stepped back.
        self._next = min(self._next, now + 1.0 / self.rate)
        at = max(self._next, now - (self.burst - 1.0) / self.rate)
        if at > now + _ROUNDING:
            return False
        self._next = at + 1.0 / self.rate
        return True

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token."""
        return min(max(0.0, self._next - now), 1.0 / self.rate)
