"""Waiting for a condition instead of sleeping and hoping.

Owns: eventually, quickest, in_thread.
May import: the standard library only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def eventually(
    condition: Callable[[], T],
    *,
    within: float = 10.0,
    every: float = 0.02,
    each: Callable[[], object] | None = None,
) -> T:
    """Return the first true value of `condition`.

    :param each: called before every look, e.g. to give a broker its upkeep.
    :raises AssertionError: it was not true `within` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        if each is not None:
            each()
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: last seen {value!r}")
        time.sleep(every)


def quickest(measure: Callable[[], float], *, tries: int = 8, enough: float) -> float:
    """Return the shortest of several measured times; stop at one that is `enough`.

    A bound says what the code can do; that a busy machine may delay one try says nothing of it.
    """
    best = measure()
    for _ in range(tries - 1):
        if best <= enough:
            break
        best = min(best, measure())
    return best


class Later:
    """What a thread returned, and when."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.ended_at = 0.0
        """`time.monotonic()` seconds."""
        self._work = work
        self._error: BaseException | None = None
        self._value: object = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # handed to whoever asks for the value
            self._error = error
        self.ended_at = time.monotonic()

    @property
    def running(self) -> bool:
        """Tell whether it has not returned yet."""
        return self._thread.is_alive()

    def value(self, within: float = 15.0) -> object:
        """Return what it returned, or raise what it raised."""
        self._thread.join(within)
        assert not self._thread.is_alive(), f"still running after {within} s"
        if self._error is not None:
            raise self._error
        return self._value


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[Later]:
    """Run `work` in a thread; wait for it at the end and raise what it raised."""
    later = Later(work)
    yield later
    later.value()
