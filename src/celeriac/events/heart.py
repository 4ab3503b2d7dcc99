"""The events of a worker: that it is there, how it does, and that it leaves; its tasks' pass through.

Owns: Heart.  Thread rule: one thread; `put` from any.  May import: kernel, client, events.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import threading
import time
from collections.abc import Sequence
from typing import Any

from celeriac.client.signals import heartbeat_sent
from celeriac.events.emitter import Emitter
from celeriac.kernel.events import Line, event

FREQUENCY = 2.0
"""Seconds between two heartbeats."""


class Heart:
    """Sends the events of one worker and its tasks.

    :param worker: whose figures are sent.
    :param switch: shared with the processes that run tasks: `switch[0]` is 1 while events of
        tasks are to be made: they are wanted, and somebody may listen.
    :param beats: send the worker's own events; those of tasks are the tasks' concern.
    :param frequency: seconds between two heartbeats.
    """

    name = "events"

    def __init__(self, worker: Any, switch: Any, *, beats: bool, frequency: float | None) -> None:
        self._worker, self._switch = worker, switch
        self._beats = beats
        self._frequency = frequency or FREQUENCY
        self._enabled = bool(switch[0])
        self._emitter = Emitter(lambda: worker.app.bus, worker.hostname, rest=self._rest)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celeriac-heart", daemon=True)
        self.put = self._emitter.put

    @property
    def enabled(self) -> bool:
        """Whether events of tasks are sent; assignable while they run."""
        return self._enabled

    @enabled.setter
    def enabled(self, on: bool) -> None:
        self._enabled = on
        self._switch[0] = int(on)  # at once, as who asks for events listens

    def _rest(self, resting: bool) -> None:
        self._switch[0] = int(self._enabled and not resting)

    @property
    def dropped(self) -> int:
        """Events that were lost."""
        return self._emitter.dropped

    def start(self) -> None:
        """Begin; a second call, or one after `stop`, does nothing."""
        if self._beats and self._thread.ident is None and not self._stopping.is_set():
            self._say("worker-online")
            self._thread.start()

    def stop(self) -> None:
        """Say that the worker leaves, and end."""
        if not self._stopping.is_set():
            self._stopping.set()
            if self._thread.ident is not None:
                self._say("worker-offline")

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all is sent."""
        self._emitter.close()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def heartbeat(self) -> None:
        """Send a heartbeat now."""
        self._say("worker-heartbeat")
        if heartbeat_sent.receivers:
            heartbeat_sent.send(sender=self)

    def _run(self) -> None:
        while not self._stopping.wait(self._frequency):
            self.heartbeat()

    def _say(self, kind: str) -> None:
        from_worker: dict[str, Any] = self._worker.figures()
        fields = {"freq": self._frequency, **from_worker, **_SOFTWARE, "loadavg": _load()}
        if self._emitter.dropped:
            fields["dropped"] = self._emitter.dropped
        batch: Sequence[Line] = [event(kind, time.time(), fields)]
        self._emitter.put(batch)


def _load() -> list[float]:
    try:
        return [round(one, 2) for one in os.getloadavg()]
    except OSError:
        return [0.0, 0.0, 0.0]


def _software() -> dict[str, str]:
    try:
        found = importlib.metadata.version("celeriac")
    except importlib.metadata.PackageNotFoundError:
        found = "?"
    return {"sw_ident": "celeriac", "sw_ver": found, "sw_sys": platform.system()}


_SOFTWARE = _software()
