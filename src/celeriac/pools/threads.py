"""Tasks in threads of this process.

Owns: ThreadPool.  Thread rule: see `ports.pool.Pool`.  May import: kernel, ports.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from typing import Any

from celeriac.kernel.errors import WorkerLostError
from celeriac.kernel.events import Line
from celeriac.kernel.message import Delivery, Record
from celeriac.pools.look import answer
from celeriac.ports.pool import MakeRun, PoolTraits, Run, Running, Sink

logger = logging.getLogger("celeriac.pool")


class ThreadFrame:
    """What a thread lends a task: no limits, and a way for its states."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def limits(self, soft: float | None, hard: float | None) -> None:
        """Do nothing: a thread cannot be interrupted, and the worker refused such tasks."""

    def noted(self, batch: Sequence[Record]) -> None:
        """Send states on their way."""
        self._sink.noted(batch)

    def told(self, batch: Sequence[Line]) -> None:
        """Send events on their way."""
        self._sink.told(batch)


class ThreadPool:
    """Runs up to `size` tasks at a time, each in a thread.

    :param size: threads.
    """

    traits = PoolTraits("threads", stops_hard=False, stops_soft=False, isolates=False)

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[Delivery] = deque()
        self._changed = threading.Condition()
        self._running: dict[int, Delivery] = {}
        self._since: dict[int, float] = {}
        self._threads = 0
        self._stopping = self._stopped = False
        self._deadline = float("inf")
        self._run: Run | None = None
        self._context = copy_context()
        """What imports and signals had set at the start: each task sees it in a copy of its own."""
        self._sink: Sink | None = None

    def start(self, make_run: MakeRun, sink: Sink) -> None:
        """Make the threads."""
        self._sink = sink
        self._run = make_run(ThreadFrame(sink))
        self._context = copy_context()
        with self._changed:
            self._spawn()

    def _spawn(self) -> None:
        while self._threads < self._size:
            self._threads += 1
            name = f"celeriac-{self.traits.name}-{self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        run, sink = self._run, self._sink
        assert run is not None and sink is not None
        me, context = threading.get_ident(), self._context
        while (delivery := self._next(me)) is not None:
            try:
                settlement = context.copy().run(run, delivery)
            except BaseException as error:  # a bug of ours, or an exit that the task asked for
                logger.exception("a task broke out of its pool")
                if self._finished(me):
                    sink.lost(delivery, WorkerLostError(f"it broke out of its pool: {error!r}"))
                continue
            if self._finished(me):
                sink.ended((settlement,))

    def _next(self, me: int) -> Delivery | None:
        with self._changed:
            while True:
                if self._threads > self._size or (self._stopping and not self._waiting):
                    self._threads -= 1
                    self._changed.notify_all()
                    return None
                if self._waiting:
                    self._since[me] = time.time()
                    delivery = self._running[me] = self._waiting.popleft()
                    return delivery
                self._changed.wait()

    def _finished(self, me: int) -> bool:
        """Forget what ran here; False where it was given up meanwhile."""
        with self._changed:
            found = self._running.pop(me, None) is not None
            if self._stopping:
                self._changed.notify_all()
            return found

    def free(self) -> int:
        """Return how many deliveries could start at once."""
        return max(0, self._size - len(self._running) - len(self._waiting))

    def size(self) -> int:
        """Return how many tasks can run at the same time."""
        return self._size

    def submit(self, batch: Sequence[Delivery]) -> None:
        """Take deliveries."""
        with self._changed:
            refused = self._stopping
            if not refused:
                self._waiting.extend(batch)
                self._changed.notify(len(batch))
        if refused and self._sink is not None:
            self._sink.returned(batch)

    def cancel(self, task_id: str, *, hard: bool) -> bool:
        """Drop a task that waits; a thread that runs cannot be stopped."""
        with self._changed:
            found = next((d for d in self._waiting if d.envelope.id == task_id), None)
            if found is None:
                return False
            self._waiting.remove(found)
        assert self._sink is not None
        self._sink.returned([found])
        return True

    def resize(self, size: int) -> None:
        """Run up to `size` tasks from now on."""
        with self._changed:
            self._size = size
            self._spawn()
            self._changed.notify_all()

    def running(self) -> list[Running]:
        """Return what runs now."""
        with self._changed:
            pid = os.getpid()
            return [
                Running(delivery.envelope.id, pid, self._since.get(thread, 0.0), thread)
                for thread, delivery in self._running.items()
            ]

    def tell(self, task_id: str, signum: int) -> bool:
        """Do nothing: a signal would reach the whole process."""
        return False

    def look(self, ask: Mapping[str, Any], *, wait: float) -> list[Mapping[str, Any]]:
        """Answer for this process."""
        running = {one.thread: one.task_id for one in self.running()}
        found = answer(ask, running)
        return [found] if found else []

    def drain(self) -> list[Delivery]:
        """Begin nothing more; return what waits."""
        with self._changed:
            self._stopping = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            return left

    def stop(self, *, deadline: float) -> Sequence[Delivery]:
        """Finish what runs until the deadline; return the rest."""
        with self._changed:
            again, self._stopped = self._stopped, True
            self._deadline = min(self._deadline, deadline)
            left = self.drain()
            if again:
                # A second call hurries the first, which returns what is left.
                return left
            while self._running and (wait := self._deadline - time.monotonic()) > 0:
                self._changed.wait(min(wait, 0.1))
            left += self._running.values()
            self._running.clear()
            return left
