"""The driver family that keeps everything in this process: for tests and first steps.

Every `memory://name` of a process is one world: a broker, results and a bus that all apps with
that URL share.  The option `private` makes a world of its own instead; `clock` sets its clock.

Owns: MemoryFamily.
Thread rule: everything may be called from any thread.
May import: kernel, ports.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from typing import Any

from celeriac.drivers.memory.broker import MemoryBroker
from celeriac.drivers.memory.bus import MemoryBus
from celeriac.drivers.memory.orders import MemoryOrders
from celeriac.drivers.memory.results import MemoryResults
from celeriac.drivers.memory.schedules import MemorySchedules
from celeriac.drivers.memory.shared import Shared
from celeriac.kernel.clock import SYSTEM_CLOCK, Clock

__all__ = ["MemoryFamily"]


class _World:
    """What all families of one URL share."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.shared = Shared(clock)
        self.results = MemoryResults(self.shared, name)
        self.broker = MemoryBroker(self.shared, self.results)
        self.bus = MemoryBus(self.shared)
        self.orders = MemoryOrders(self.shared)
        self.schedules = MemorySchedules(self.shared, self.broker.publish)


_worlds: dict[str, _World] = {}
_worlds_lock = threading.Lock()
_serial = itertools.count(1)


class MemoryFamily:
    """Broker, results and bus in this process's memory.

    :param url: `memory://` or `memory://name`; the same URL is the same world.
    :param options: `private`: True for a world of its own; `clock`: a `kernel.clock.Clock`.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        clock: Clock | None = options.get("clock")
        name = f"memory:{url.partition('://')[2].rstrip('/')}"
        with _worlds_lock:
            if options.get("private"):
                self._world = _World(f"{name}#{next(_serial)}", clock or SYSTEM_CLOCK)
                return
            if name not in _worlds:
                _worlds[name] = _World(name, clock or SYSTEM_CLOCK)
            self._world = _worlds[name]
            if clock is not None:
                self._world.shared.clock = clock

    def broker(self) -> MemoryBroker:
        return self._world.broker

    def results(self) -> MemoryResults:
        return self._world.results

    def bus(self) -> MemoryBus:
        return self._world.bus

    def orders(self) -> MemoryOrders:
        """Return the standing orders."""
        return self._world.orders

    def schedules(self) -> MemorySchedules:
        return self._world.schedules

    def wake(self) -> None:
        """Make everything that waits look at the clock again; nothing returns early by it."""
        self._world.shared.wake()

    def after_fork(self) -> None:
        self._world.shared.forget()

    def close(self) -> None:
        """Do nothing: the world lasts as long as its process, for whoever opens its URL next."""
