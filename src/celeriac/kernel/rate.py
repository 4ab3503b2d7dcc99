"""Rate limits: Celery's notation and a token bucket.

Owns: parse_rate, TokenBucket.  May import: kernel.
"""

from __future__ import annotations

from celeriac.kernel.errors import ImproperlyConfigured

_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_rate(rate: str | float | None) -> float:
    """Return tasks per second of "10/s", "100/m", "1000/h" or a number; 0 means no limit.

    :raises ImproperlyConfigured: it is none of these.
    """
    if not rate:
        return 0.0
    count, _, per = str(rate).partition("/")
    try:
        found = float(count) / _PER[per or "s"]
        if not 0.0 <= found < float("inf"):
            raise ValueError
        return found
    except (KeyError, ValueError):
        raise ImproperlyConfigured(
            f"rate_limit cannot be {rate!r}: '10/s', '100/m', '1000/h' or a number per second"
        ) from None


class TokenBucket:
    """Lets `rate` through in a second, and up to `burst` at once after a quiet time.

    :param rate: tokens per second.
    :param burst: tokens that can be saved up.
    """

    def __init__(self, rate: float, burst: float = 1.0) -> None:
        self.rate, self.burst = rate, burst
        self._tokens = burst
        self._at = float("-inf")

    def _fill(self, now: float) -> None:
        if self._at != float("-inf"):
            self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token; False where there is none.  `now` is in monotonic seconds."""
        self._fill(now)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return True
        return False

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self.rate)
