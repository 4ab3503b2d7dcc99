"""What it costs to be watched: a worker's throughput with events of tasks, as a part of that without."""

from __future__ import annotations

import contextlib
import statistics
import threading
from collections.abc import Iterator
from typing import Any

from benchmarks import measures
from celeriac.kernel.events import TOPIC


class Watched:
    """A side whose workers send events of tasks.

    :param side: celeriac on some broker.
    """

    def __init__(self, side: Any) -> None:
        self._side = side
        self.label, self.environment = side.label, side.environment

    def command(self, pool: str, concurrency: int) -> list[str]:
        """Return the command of a worker."""
        return [*self._side.command(pool, concurrency), "-E"]

    def send_many(self, name: str, count: int) -> None:
        """Send tasks."""
        self._side.send_many(name, count)

    def left(self) -> int:
        """Return how many messages wait or are held."""
        return int(self._side.left())


@contextlib.contextmanager
def listener(side: Any) -> Iterator[None]:
    """Listen to a side's events, and do nothing with them: a monitor's own work is its own."""
    subscription = side.app.bus.subscribe([TOPIC])
    ends = threading.Event()

    def listen() -> None:
        while not ends.is_set():
            subscription.poll(0.1)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield
    ends.set()
    thread.join()
    subscription.close()


def kept(
    side: Any, pool: str, concurrency: int, count: int, *, heard: bool, rounds: int = 3
) -> float:
    """Return the rate with events as per cent of that without: the median of pairs, side by side.

    :param heard: whether somebody listens.
    """
    if heard:
        with listener(side):
            return kept(side, pool, concurrency, count, heard=False, rounds=rounds)
    found = []
    for number in range(rounds):
        pair = {}
        # Which one goes first changes, as machines grow warm, and files grow.
        for one in (side, Watched(side)) if number % 2 else (Watched(side), side):
            pair[one is side] = measures.drain(one, "bench.noop", pool, concurrency, count)
        found.append(100 * pair[False] / pair[True])
    return statistics.median(found)
