"""Fan-out between the threads of one process.

Owns: MemoryBus.
Thread rule: everything may be called from any thread.
May import: kernel, ports.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from celeriac.drivers.memory.shared import Shared

_BOUND = 10_000
"""Messages kept for a listener that does not poll; the oldest are dropped."""


class MemoryBus:
    """Best-effort fan-out inside one process."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._listeners: dict[str, set[MemorySubscription]] = {}

    def send(self, topic: str, batch: Sequence[bytes]) -> None:
        with self._shared.lock:
            listeners = self._listeners.get(topic, ())
            for listener in listeners:
                listener.inbox.extend((topic, message) for message in batch)
            if listeners:
                self._shared.messages.notify_all()

    def heard(self, topic: str) -> bool:
        return bool(self._listeners.get(topic))

    def subscribe(self, topics: Sequence[str]) -> MemorySubscription:
        listener = MemorySubscription(self._shared, self, topics)
        with self._shared.lock:
            for topic in topics:
                self._listeners.setdefault(topic, set()).add(listener)
        return listener

    def leave(self, listener: MemorySubscription, topics: Sequence[str]) -> None:
        """Send nothing more to `listener`.  The caller holds the lock."""
        for topic in topics:
            listeners = self._listeners.get(topic, set())
            listeners.discard(listener)
            if not listeners:
                self._listeners.pop(topic, None)


class MemorySubscription:
    """One listener's inbox."""

    def __init__(self, shared: Shared, bus: MemoryBus, topics: Sequence[str]) -> None:
        self._shared = shared
        self._bus = bus
        self._topics = tuple(topics)
        self._woken = False
        self._closed = False
        self.inbox: deque[tuple[str, bytes]] = deque(maxlen=_BOUND)

    def poll(self, wait: float) -> Sequence[tuple[str, bytes]]:
        deadline = time.monotonic() + wait
        with self._shared.lock:
            while not (self.inbox or self._woken or self._closed):
                if not self._shared.pause(self._shared.messages, deadline):
                    break
            self._woken = False
            found = list(self.inbox)
            self.inbox.clear()
            return found

    def wake(self) -> None:
        with self._shared.lock:
            self._woken = True
            self._shared.messages.notify_all()

    def close(self) -> None:
        with self._shared.lock:
            self._closed = True
            self.inbox.clear()
            self._bus.leave(self, self._topics)
            self._shared.messages.notify_all()
