"""What the roles of one memory world share: the lock, what is waited for, and the clock.

Owns: Shared.
Thread rule: `lock` guards everything in the world; the conditions belong to it.
May import: kernel.
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from typing import Any, Never

from celeriac.kernel.clock import Clock, SystemClock
from celeriac.kernel.errors import BrokerRejected

_RECHECK = 0.02
"""Seconds between looks at a clock that others move: nothing tells when it moved."""
_LONGEST = 3600.0
"""Seconds of one wait: what is longer is waited for in turns."""


class Shared:
    """The lock of a world, one condition per kind of waiter, and the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock: AbstractContextManager[Any] = (lock := threading.RLock())
        self.work = threading.Condition(lock)
        self.finals = threading.Condition(lock)
        self.messages = threading.Condition(lock)

    def pause(
        self, condition: threading.Condition, deadline: float, due: float | None = None
    ) -> bool:
        """Wait for `condition`, at most until `deadline` or `due`; False where the time is up.

        :param deadline: `time.monotonic()` seconds: how long a caller waits is real time.
        :param due: unix seconds of the world's clock, when something happens by itself.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        if not isinstance(self.clock, SystemClock):
            left = min(left, _RECHECK)
        elif due is not None:
            left = min(left, max(0.0, due - self.clock.time()))
        condition.wait(min(left, _LONGEST))
        return True

    def wake(self) -> None:
        """Make every waiter look again."""
        with self.lock:
            for condition in (self.work, self.finals, self.messages):
                condition.notify_all()

    def forget(self) -> None:
        """Refuse everything from now on: called in a forked child, where this is a dead copy.

        A child that published into its copy would lose what it published without a word.
        """
        self.lock = _Forked()


class _Forked(AbstractContextManager[None]):
    """The lock of a world that stayed in the parent process."""

    def __enter__(self) -> Never:
        raise BrokerRejected(
            "memory:// lives in one process and this one was forked from it: "
            "use sqlite:// or a server, or the thread pool"
        )

    def __exit__(self, *exc: object) -> None:
        """Never entered."""
