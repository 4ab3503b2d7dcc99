"""A part of the worker that runs in a thread of its own.

Owns: Service, Part.  Thread rule: `start`, `stop` and `join` may be called from any thread, in any order
and any number of times.  May import: the standard library only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger("celeriac.worker")


class Part(Protocol):
    """What the worker starts and stops: a `Service`, or what another layer brings along."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        ...

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended."""
        ...


class Service:
    """A thread with a name, a way to stop and an heir.

    A subclass defines `run`, which returns once `self.stopping` is set, and `wake`, which ends
    whatever `run` waits in.

    :param on_death: called with the error when `run` raises: a helper that died must not leave
        the worker half alive.
    """

    name = "service"

    def __init__(self, on_death: Callable[[Service, BaseException], None] | None = None) -> None:
        self.stopping = threading.Event()
        self._on_death = on_death
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; a second call, or one after `stop`, does nothing."""
        with self._lock:
            if self._thread is None and not self.stopping.is_set():
                self._thread = threading.Thread(
                    target=self._main, name=f"celeriac-{self.name}", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        self.stopping.set()
        self.wake()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False when `timeout` seconds have passed before."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def run(self) -> None:
        """Do the work until `self.stopping` is set."""
        raise NotImplementedError

    def wake(self) -> None:
        """End what `run` waits in."""

    def _main(self) -> None:
        try:
            self.run()
        except BaseException as error:
            logger.critical("the %s died: the worker stops", self.name, exc_info=error)
            if self._on_death is not None:
                self._on_death(self, error)
