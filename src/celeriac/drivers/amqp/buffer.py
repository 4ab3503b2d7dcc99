"""What the server has pushed and nobody has claimed yet.

Owns: Buffer.  Thread rule: under its consumer's lock.  May import: drivers.amqp.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Container, Mapping

from celeriac.drivers.amqp.message import Incoming

_Item = tuple[int, int, Incoming]


class Buffer:
    """Messages by priority, then by arrival; those that have lost a worker apart."""

    def __init__(self) -> None:
        self._clean: list[_Item] = []
        self._suspects: list[_Item] = []
        self.twins: list[Incoming] = []
        """Those with an id that is held: handed out when that one has ended."""
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._clean) + len(self._suspects) + len(self.twins)

    def push(self, message: Incoming, *, suspect: bool = False) -> None:
        """Take a message in."""
        line = self._suspects if suspect or message.losses else self._clean
        priority = message.properties.priority or 0
        heapq.heappush(line, (-priority, next(self._order), message))

    def _release_twins(self, held: Container[str]) -> None:
        if self.twins:
            twins, self.twins = self.twins, []
            for one in twins:
                if one.task_id in held:
                    self.twins.append(one)
                else:
                    self.push(one)

    def take(self, limit: int, suspects: int, held: Mapping[str, object]) -> list[Incoming]:
        """Take up to `limit` out, `suspects` of them at the most from those that lost a worker."""
        self._release_twins(held)
        taken: list[Incoming] = []
        ids: set[str] = set()
        while len(taken) < limit:
            heads = [self._clean] if self._clean else []
            if self._suspects and suspects > 0:
                heads.append(self._suspects)
            if not heads:
                break
            line = min(heads)
            message = heapq.heappop(line)[2]
            task_id = message.task_id
            if task_id in held or task_id in ids:
                self.twins.append(message)
                continue
            suspects -= line is self._suspects
            ids.add(task_id)
            taken.append(message)
        return taken

    def claimable(self, suspects: int, held: Container[str]) -> bool:
        """Return whether `take` would find something."""
        self._release_twins(held)
        return bool(self._clean) or (suspects > 0 and bool(self._suspects))

    def parked(self, held: Container[str]) -> int:
        """Return how many wait here that a claim may have to pass over."""
        return len(self._suspects) + len(self.twins)

    def remove(self, keep: Container[str]) -> list[Incoming]:
        """Take out everything from queues that are not among `keep`."""
        gone = []
        for line in (self._clean, self._suspects):
            gone += [item[2] for item in line if item[2].queue not in keep]
            line[:] = [item for item in line if item[2].queue in keep]
            heapq.heapify(line)
        gone += [one for one in self.twins if one.queue not in keep]
        self.twins = [one for one in self.twins if one.queue in keep]
        return gone

    def clear(self) -> list[Incoming]:
        """Take out everything."""
        found = [item[2] for item in (*self._clean, *self._suspects)] + self.twins
        self._clean, self._suspects, self.twins = [], [], []
        return found
