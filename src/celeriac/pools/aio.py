"""Tasks on one event loop: `async def` ones beside each other, the others in threads.

Owns: AsyncioPool.  Thread rule: see `ports.pool`; what is on the loop belongs to its thread.
May import: kernel, ports, pools.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from typing import Any

from celeriac.kernel.errors import WorkerLostError
from celeriac.kernel.message import Delivery, Settlement
from celeriac.pools.look import answer
from celeriac.pools.threads import ThreadFrame, ThreadPool
from celeriac.ports.pool import MakeRun, PoolTraits, Running, Sink

logger = logging.getLogger("celeriac.pool")

THREADS = 8
"""Threads for tasks that are not `async def`, at the most."""


class AsyncioPool:
    """Runs up to `size` tasks at a time on one loop.

    :param size: tasks in flight.
    """

    traits = PoolTraits("asyncio", stops_hard=False, stops_soft=False, isolates=False)

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Condition()
        self._waiting: deque[Delivery] = deque()
        self._running: dict[int, Delivery] = {}
        self._since: dict[int, float] = {}
        self._stopping = False
        self._deadline = float("inf")
        self._loop = asyncio.new_event_loop()
        self._threads = ThreadPool(min(size, THREADS))
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, make_run: MakeRun, sink: Sink) -> None:
        """Start the loop's thread."""
        self._sink = sink
        self._run: Any = make_run(ThreadFrame(sink))
        self._context = copy_context()
        self._threads.start(lambda frame: self._run, sink)
        threading.Thread(target=self._live, name="celeriac-aio", daemon=True).start()

    def _live(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def free(self) -> int:
        """Return how many deliveries could start at once."""
        busy = len(self._running) + len(self._waiting)
        return max(0, self._size - busy - self._threads.size() + self._threads.free())

    def size(self) -> int:
        """Return how many tasks can run at the same time."""
        return self._size

    def submit(self, batch: Sequence[Delivery]) -> None:
        """Take deliveries."""
        if self._is_stopping():
            self._sink.returned(batch)
            return
        coroutines = [delivery for delivery in batch if self._run.is_async(delivery)]
        if len(coroutines) < len(batch):
            own = {id(delivery) for delivery in coroutines}
            self._threads.submit([delivery for delivery in batch if id(delivery) not in own])
        if coroutines:
            with self._lock:
                # It may have begun to stop since the first look.
                refused = self._is_stopping()
                if not refused:
                    self._waiting.extend(coroutines)
            if refused:
                self._sink.returned(coroutines)
            else:
                self._loop.call_soon_threadsafe(self._fill)

    def _is_stopping(self) -> bool:
        return self._stopping

    def _fill(self) -> None:
        """Begin what there is room for; on the loop."""
        while True:
            with self._lock:
                if not self._waiting or len(self._running) >= self._size:
                    return
                delivery = self._waiting.popleft()
                self._running[id(delivery)] = delivery
            # A copy of its own: what one task sets must not be seen by the next.
            self._since[id(delivery)] = time.time()
            task = self._loop.create_task(
                self._one(delivery), name=delivery.envelope.id, context=self._context.copy()
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, delivery: Delivery) -> None:
        settlement: Settlement | None = None
        try:
            settlement = await self._run.run_async(delivery)
        except BaseException as error:  # a bug of ours, or an exit that the task asked for
            logger.exception("a task broke out of its pool")
            if self._finished(delivery):
                self._sink.lost(delivery, WorkerLostError(f"it broke out of its pool: {error!r}"))
        else:
            if self._finished(delivery) and settlement is not None:
                self._sink.ended((settlement,))
        self._fill()

    def _finished(self, delivery: Delivery) -> bool:
        with self._lock:
            found = self._running.pop(id(delivery), None) is not None
            self._since.pop(id(delivery), None)
            self._lock.notify_all()
            return found

    def cancel(self, task_id: str, *, hard: bool) -> bool:
        """Drop a task that waits."""
        with self._lock:
            found = next((d for d in self._waiting if d.envelope.id == task_id), None)
            if found is not None:
                self._waiting.remove(found)
        if found is None:
            return self._threads.cancel(task_id, hard=hard)
        self._sink.returned([found])
        return True

    def resize(self, size: int) -> None:
        """Run up to `size` tasks from now on."""
        with self._lock:
            self._size = size
        self._threads.resize(min(size, THREADS))
        self._loop.call_soon_threadsafe(self._fill)

    def running(self) -> list[Running]:
        """Return what runs now."""
        with self._lock:
            pid = os.getpid()
            found = [
                Running(delivery.envelope.id, pid, self._since.get(key, 0.0))
                for key, delivery in self._running.items()
            ]
        return [*found, *self._threads.running()]

    def tell(self, task_id: str, signum: int) -> bool:
        """Do nothing: a signal would reach the whole process."""
        return False

    def look(self, ask: Mapping[str, Any], *, wait: float) -> list[Mapping[str, Any]]:
        """Answer for this process."""
        threads = {one.thread: one.task_id for one in self._threads.running()}
        found = answer(ask, threads, on_a_loop=True)
        return [found] if found else []

    def stop(self, *, deadline: float) -> Sequence[Delivery]:
        """Finish what runs until the deadline; return the rest."""
        with self._lock:
            again, self._stopping = self._stopping, True
            self._deadline = min(self._deadline, deadline)
            # The threads begin nothing more either, however long the coroutines take to end.
            left = [*self._waiting, *self._threads.drain()]
            self._waiting.clear()
            self._lock.notify_all()
            if again:
                # A second call hurries the first, which returns what is left.
                return [*left, *self._threads.stop(deadline=deadline)]
            while self._running and (wait := self._deadline - time.monotonic()) > 0:
                self._lock.wait(min(wait, 0.1))
            left += self._running.values()
            self._running.clear()
        with contextlib.suppress(RuntimeError):  # it was stopped before it was started
            self._loop.call_soon_threadsafe(self._end)
        return [*left, *self._threads.stop(deadline=self._deadline)]

    def _end(self) -> None:
        """End the loop when the last task has ended, the abandoned ones included; on the loop."""
        if not self._tasks:
            self._loop.stop()
        for task in self._tasks:
            task.add_done_callback(lambda _: self._loop.call_soon(self._end))
