"""How a worker ends: warm, cold, or at once.

SIGTERM or SIGINT is warm: claim no more, give back what has not begun, let tasks finish for
`worker_shutdown_timeout` seconds.  The second one, or SIGQUIT, is cold: what runs is ended and
given back.  The third exits, and the leases do the rest.

Owns: Shutdown.  Thread rule: `request` from any thread or a signal handler.
May import: client.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from celeriac.client.signals import worker_shutting_down

if TYPE_CHECKING:
    from celeriac.worker.worker import Worker

logger = logging.getLogger("celeriac.worker")


class Shutdown:
    """Waits for the end of one worker and carries it out."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._asked = threading.Event()
        self._how = "warm"
        self._times = 0
        self._signal = ""
        """The name of the signal that asked, where one did."""

    def request(self, how: str = "warm") -> None:
        """Ask for the end; the second call, or "cold", hurries."""
        self._times += 1
        if how == "cold" or self._times > 1:
            self._how = "cold"
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether the end was asked for."""
        return self._asked.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the end is asked for, or for `timeout` seconds; return whether it was."""
        return self._asked.wait(timeout)

    def run(self) -> None:
        """End the worker; hurries when another request comes while it does."""
        worker = self._worker
        kind = "Warm" if self._how == "warm" else "Cold"
        logger.warning("worker: %s shutdown (MainProcess)", kind)
        self._say(kind)
        deadline = self._deadline()
        done = threading.Event()

        def finish() -> None:
            try:
                worker.finish(deadline)
            finally:
                done.set()

        threading.Thread(target=finish, name="celeriac-shutdown", daemon=True).start()
        hurried = self._how == "cold"
        while not done.wait(0.05):
            if self._how == "cold" and not hurried:
                hurried = True
                logger.warning("worker: Cold shutdown (MainProcess)")
                self._say("Cold")
                worker.returned(worker.pool.stop(deadline=time.monotonic()))

    def _say(self, kind: str) -> None:
        worker_shutting_down.send(
            sender=self._worker.hostname, sig=self._signal, how=kind, exitcode=0
        )

    def _deadline(self) -> float:
        if self._how == "cold":
            return time.monotonic()
        return time.monotonic() + float(self._worker.app.conf.worker_shutdown_timeout)

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Answer to signals inside the block, where this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {
            signal.SIGTERM: self._on_signal,
            signal.SIGINT: self._on_signal,
            signal.SIGQUIT: self._on_quit,
        }
        former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._times >= 2:
            os._exit(128 + number)
        self._signal = signal.Signals(number).name
        self.request("warm")

    def _on_quit(self, number: int, frame: Any) -> None:
        if self._how == "cold" and self._times >= 2:
            os._exit(128 + number)
        self._signal = signal.Signals(number).name
        self.request("cold")
