"""What it costs to be watched: a worker's throughput with events of tasks, as a part of that without."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import measures


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


def kept(side: Any, pool: str, concurrency: int, count: int, *, rounds: int = 3) -> float:
    """Return the rate with events as per cent of that without: the median of pairs, side by side."""
    found = []
    for number in range(rounds):
        pair = {}
        # Which one goes first changes, as machines grow warm, and files grow.
        for one in (side, Watched(side)) if number % 2 else (Watched(side), side):
            pair[one is side] = measures.drain(one, "bench.noop", pool, concurrency, count)
        found.append(100 * pair[False] / pair[True])
    return statistics.median(found)
