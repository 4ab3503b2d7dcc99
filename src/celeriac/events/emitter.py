"""Sends events in the background: a ring that drops the oldest, emptied ten times a second.

Whoever puts events here never waits: not for the bus, nor for anybody who reads them.

Owns: Emitter.  Thread rule: `put` from any thread; one thread of its own sends.
May import: kernel, ports.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from celeriac.kernel.errors import CeleryError
from celeriac.kernel.events import TOPIC, Line, Stamp
from celeriac.ports.bus import Bus

logger = logging.getLogger("celeriac.events")

SIZE = 10_000
"""Events that may wait."""
PAUSE = 0.1
"""Seconds that an event may wait for others."""
BATCH = 1_000
"""Events in one message."""
MANY = 4_000
"""Events that end the pause: each write of a bus costs much more than what is in it."""
FEW = 50
"""Events that are written whether anybody listens or not: asking costs as much."""
REST = 0.5
"""Seconds in which no events are made once nobody was found to listen."""
COMPLAIN = 60.0
"""Seconds between two complaints about lost events."""


def _hours_west() -> int:
    west = time.altzone if time.localtime().tm_isdst > 0 else time.timezone
    return west // 3600


class Emitter:
    """Sends the events of one process.

    :param bus: returns the bus; asked for each batch, as connections come and go.
    :param hostname: the node's name, as readers are to see it.
    :param rest: called with True when events need not be made for a while, as nobody listens, and
        with False when they must be again.
    """

    def __init__(
        self,
        bus: Callable[[], Bus],
        hostname: str,
        *,
        size: int = SIZE,
        rest: Callable[[bool], None] = lambda resting: None,
    ) -> None:
        self._bus, self._rest = bus, rest
        self.hostname = hostname
        self._stamp = Stamp(hostname, os.getpid(), _hours_west())
        self._ring: deque[Line] = deque(maxlen=size)
        self._size = size
        self._some, self._many = threading.Event(), threading.Event()
        self._awake = False
        """Whether the thread knows that something waits: an event asked for would be a call."""
        self._unheard = False
        self._stopping = False
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Events that were lost: the ring was full, or the bus was away."""
        self._complained_at, self._complained_of = 0.0, 0

    def put(self, batch: Sequence[Line]) -> None:
        """Send these soon."""
        ring = self._ring
        there = len(ring) + len(batch)
        if there > self._size:
            self.dropped += there - self._size
        ring.extend(batch)
        if not self._awake:
            self._awake = True
            self._some.set()
            if self._thread is None:
                self._begin()
        if there >= MANY:
            self._many.set()

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(
                    target=self._run, name="celeriac-events", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            self._some.wait()
            if not self._stopping:
                self._many.wait(PAUSE)
            self._unheard = False
            self.flush()
            if self._unheard and not self._stopping:
                self._rest(True)
                self._many.wait(REST)
                self._rest(False)

    def flush(self) -> None:
        """Send what waits, now."""
        with self._flushing:
            self._some.clear()
            self._awake = False
            self._many.clear()
            left = len(self._ring)  # what comes meanwhile is for the next time
            if left:
                self._send(left)
            if self.dropped > self._complained_of:
                self._complain()

    def _send(self, count: int) -> None:
        ring = self._ring
        taken = 0
        try:
            bus = self._bus()
            if count > FEW and not bus.heard(TOPIC):
                self._unheard = True
                while taken < count:
                    ring.popleft()
                    taken += 1
                return
            messages: list[bytes] = []
            while taken < count:
                # Full, it drops the oldest and stays full: as many are there as were.
                batch = [ring.popleft() for _ in range(min(count - taken, BATCH))]
                taken += len(batch)
                messages.append(self._stamp.message(batch))
            bus.send(TOPIC, messages)
        except CeleryError as error:
            self._lost(count, taken)
            logger.debug("%d events were not sent: %s", count, error)
        except Exception:  # a driver's bug must not end all events
            self._lost(count, taken)
            logger.exception("%d events were not sent", count)

    def _lost(self, count: int, taken: int) -> None:
        self.dropped += count
        for _ in range(count - taken):
            self._ring.popleft()

    def _complain(self) -> None:
        now = time.monotonic()
        if not self._complained_at or now - self._complained_at >= COMPLAIN:
            logger.warning("%d events were lost so far", self.dropped)
            self._complained_at, self._complained_of = now, self.dropped

    def close(self) -> None:
        """Send what waits and end."""
        self._stopping = True
        self._some.set()
        self._many.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)
        self.flush()
