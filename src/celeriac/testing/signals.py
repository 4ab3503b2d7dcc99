"""Points in production code at which a test can wait, or make a thread wait.

Production code holds a `TestSignal` (or anything with `hit`) and calls it; a test that knows of
it waits for the call instead of sleeping.

Owns: TestSignal.
Thread rule: everything may be called from any thread.
May import: the standard library only.
"""

from __future__ import annotations

import threading


class TestSignal:
    """Counts how often a point was passed, and can hold whoever passes.

    Nothing happens, and nothing is counted, until a test calls `listen`.
    """

    __test__ = False
    __slots__ = ("_changed", "_hits", "_listening", "_open")

    def __init__(self) -> None:
        self._listening = False
        self._hits = 0
        self._open = True
        self._changed = threading.Condition()

    def hit(self) -> None:
        """Pass the point: what production code calls."""
        if not self._listening:
            return
        with self._changed:
            self._hits += 1
            self._changed.notify_all()
            while not self._open:
                self._changed.wait()

    def listen(self) -> TestSignal:
        """Begin to count, from nothing."""
        with self._changed:
            self._hits = 0
            self._listening = True
        return self

    def hold(self) -> None:
        """Stop everyone at the point, counted but not passed, until `release`."""
        with self._changed:
            self._listening = True
            self._open = False

    def release(self) -> None:
        """Let everyone pass."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    @property
    def hits(self) -> int:
        """Return how often the point was reached since `listen`."""
        return self._hits

    def wait(self, count: int = 1, *, timeout: float = 10.0) -> None:
        """Wait until the point was reached `count` times since `listen`.

        :raises AssertionError: it was not, in `timeout` seconds.
        """
        with self._changed:
            assert self._listening, "call `listen` before what is to be waited for"
            if not self._changed.wait_for(lambda: self._hits >= count, timeout):
                raise AssertionError(f"reached {self._hits} times, not {count}, in {timeout} s")
