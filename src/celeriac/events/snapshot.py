"""Snapshots: a camera that looks at the fleet's picture every so often.

Owns: Polaroid, evcam.  Thread rule: a thread of its own presses the shutter.
May import: kernel, client, events.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celeriac.client.current import get_current_app
from celeriac.client.signals import Signal
from celeriac.events.state import State
from celeriac.kernel.rate import TokenBucket, parse_rate

logger = logging.getLogger("celeriac.events")


class Polaroid:
    """Takes snapshots of a state; subclass it and define `on_shutter`.

    :param freq: seconds between two snapshots.
    :param maxrate: the most snapshots in a time, such as "10/m".
    :param cleanup_freq: seconds between two calls of `on_cleanup`.
    :param timer: Celery's; not used.
    """

    clear_after = False
    """Forget tasks and workers after each snapshot."""

    def __init__(
        self,
        state: State,
        freq: float = 1.0,
        maxrate: str | float | None = None,
        cleanup_freq: float = 3600.0,
        timer: Any = None,
        app: Any = None,
    ) -> None:
        self.app = app or get_current_app()
        self.state = state
        self.freq, self.cleanup_freq = freq, cleanup_freq
        self.shutter_signal = Signal("shutter_signal", ("state",))
        self.cleanup_signal = Signal("cleanup_signal")
        rate = parse_rate(maxrate)
        self._bucket = TokenBucket(rate, max(1.0, rate)) if rate else None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def install(self) -> None:
        """Begin to take snapshots."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="celeriac-camera", daemon=True)
            self._thread.start()

    def on_shutter(self, state: State) -> Any:
        """Look at the state; define this."""

    def on_cleanup(self) -> Any:
        """Delete what is old; define this where there is something."""

    def shutter(self) -> None:
        """Take a snapshot, unless there were too many."""
        if self._bucket is not None and not self._bucket.take(time.monotonic()):
            return
        self.shutter_signal.send(sender=self.state, state=self.state)
        self.state.freeze_while(self.on_shutter, self.state, clear_after=self.clear_after)

    def capture(self) -> None:
        """Take a snapshot now, whatever the rate."""
        self.state.freeze_while(self.on_shutter, self.state, clear_after=self.clear_after)

    def cleanup(self) -> None:
        """Have old things deleted."""
        self.cleanup_signal.send(sender=self.state)
        self.on_cleanup()

    def cancel(self) -> None:
        """Take no more."""
        self._stopping.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    def _run(self) -> None:
        cleanup_at = time.monotonic() + self.cleanup_freq
        while not self._stopping.wait(self.freq):
            self._try(self.shutter)
            if time.monotonic() >= cleanup_at:
                cleanup_at = time.monotonic() + self.cleanup_freq
                self._try(self.cleanup)

    @staticmethod
    def _try(call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception:  # the user's code; the next snapshot may be better
            logger.exception("a snapshot failed")

    def __enter__(self) -> Polaroid:
        self.install()
        return self

    def __exit__(self, *error: object) -> None:
        self.cancel()


def evcam(
    camera: str | Callable[..., Polaroid],
    freq: float = 1.0,
    maxrate: str | float | None = None,
    loglevel: Any = 0,
    logfile: Any = None,
    pidfile: Any = None,
    timer: Any = None,
    app: Any = None,
    stop: threading.Event | None = None,
) -> None:
    """Take snapshots until interrupted.

    :param camera: a subclass of `Polaroid`, or its path "proj.module.Camera".
    :param stop: ends it.
    """
    app = app or get_current_app()
    made = _class(camera) if isinstance(camera, str) else camera
    state = app.events.State()
    receiver = app.events.Receiver(handlers={"*": state.event})
    with receiver, made(state, freq=freq, maxrate=maxrate, app=app):
        receiver.wakeup_workers()
        while stop is None or not stop.is_set():
            for event in receiver.poll(0.5):
                receiver.process(event["type"], event)


def _class(path: str) -> Any:
    module, _, name = path.replace(":", ".").rpartition(".")
    return getattr(importlib.import_module(module), name)
