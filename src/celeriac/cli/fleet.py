"""What `celeriac top` knows: a picture of the fleet, rates, and what of it to show.

Owns: Fleet, Filter.  Thread rule: one thread.  May import: kernel, client, events.
"""

from __future__ import annotations

import fnmatch
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celeriac.events.state import State, Task, Worker
from celeriac.kernel.message import QueueCount
from celeriac.kernel.redact import bounded_repr

WINDOW = 10.0
"""Seconds over which rates are taken."""

ENDS = {"task-succeeded": "done", "task-failed": "failed", "task-retried": "retried"}
FINISHED = frozenset({"SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"})


@dataclass
class Filter:
    """Which tasks are shown."""

    task: str = ""
    """A pattern of names; without a star, a part of one."""
    worker: str = ""

    def fits(self, task: Task) -> bool:
        """Tell whether a task is to be shown."""
        host = task.worker.hostname if task.worker is not None else ""
        return _like(task.name or "", self.task) and _like(host or "", self.worker)


def _like(text: str, pattern: str) -> bool:
    return not pattern or fnmatch.fnmatchcase(text, pattern if "*" in pattern else f"*{pattern}*")


class Fleet:
    """Workers, queues and tasks, as events and the broker tell of them.

    :param wanted: which tasks are shown.
    """

    def __init__(self, wanted: Filter | None = None) -> None:
        self.state = State()
        self.wanted = wanted or Filter()
        self.queues: Mapping[str, QueueCount] = {}
        self.trouble = ""
        """Why the broker cannot be asked."""
        self._ends: deque[tuple[float, str]] = deque(maxlen=200_000)
        self._since: float | None = None

    def take(self, event: dict[str, Any]) -> None:
        """Take an event."""
        if self._since is None:
            self._since = event["local_received"]
        self.state.event(event)
        end = ENDS.get(str(event["type"]))
        if end is not None:
            self._ends.append((event["local_received"], end))

    def runs(self, hostname: str, info: Mapping[str, Any]) -> None:
        """Take what a worker said of a task that runs; events, where some came, know better."""
        uuid = info.get("id")
        if not isinstance(uuid, str) or uuid in self.state.tasks:
            return
        started = info.get("time_start") or time.time()
        fields = {
            "name": info.get("name"),
            "args": bounded_repr(info.get("args")),
            "kwargs": bounded_repr(info.get("kwargs")),
        }
        for kind in ("task-received", "task-started"):
            self.state.event(
                {
                    "type": kind,
                    "uuid": uuid,
                    "hostname": hostname,
                    "timestamp": started,
                    "local_received": time.time(),
                    # Before all that events say: clock 0 is in no order.
                    "clock": 0,
                    **(fields if kind == "task-received" else {}),
                }
            )

    def rates(self, now: float) -> dict[str, float]:
        """Return tasks per second that were done, failed or retried lately."""
        since = now if self._since is None else self._since
        while self._ends and self._ends[0][0] < now - WINDOW:
            self._ends.popleft()
        over = max(1.0, min(WINDOW, now - since))
        counts = dict.fromkeys(ENDS.values(), 0)
        for _, end in self._ends:
            counts[end] += 1
        return {end: count / over for end, count in counts.items()}

    def workers(self) -> list[Worker]:
        """Return the workers, those that are gone last."""
        found = [one for one in self.state.workers.values() if one.hostname]
        return sorted(found, key=lambda one: (not one.alive, str(one.hostname)))

    def running(self) -> list[Task]:
        """Return the tasks that run, the longest first."""
        found = [
            task
            for task in self.state.tasks.values()
            if task.state == "STARTED" and self.wanted.fits(task)
        ]
        return sorted(found, key=lambda task: task.started or 0.0)

    def ended(self, limit: int) -> list[Task]:
        """Return the tasks that ended last."""
        found: list[Task] = []
        for _, task in self.state.tasks_by_time():
            if task.state in FINISHED and self.wanted.fits(task):
                found.append(task)
                if len(found) >= limit:
                    break
        return found
