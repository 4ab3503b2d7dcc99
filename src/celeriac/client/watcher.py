"""One thread waits for the results that any number of threads and coroutines wait for.

Owns: Watcher.  Thread rule: any thread may wait; the watch is polled by the watcher's own.
May import: kernel, ports.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from celeriac.kernel.errors import BrokerUnavailable
from celeriac.kernel.message import Record
from celeriac.ports.results import ResultBackend, Watch

logger = logging.getLogger("celeriac.client")

Callback = Callable[[Record], None]

IDLE = 1.0
"""Seconds of one poll; a safety net, since `add` ends a poll."""
NOBODY = "-"
"""An id that no task has: adding it ends a poll."""


class Watcher:
    """Calls back when results are final.

    The thread starts with the first waiter and ends a little after the last.

    :param store: the result store.
    """

    def __init__(self, store: ResultBackend) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Callback]] = defaultdict(list)
        self._watch: Watch | None = None
        self._thread: threading.Thread | None = None
        self._closing = False

    def add(self, task_id: str, callback: Callback) -> None:
        """Call `callback` with the record once it is final, from the watcher's thread."""
        self.add_all((task_id,), callback)

    def add_all(self, ids: Sequence[str], callback: Callback) -> None:
        """Call `callback` with each record once it is final, from the watcher's thread."""
        if not ids:
            return
        with self._lock:
            for task_id in ids:
                self._waiting[task_id].append(callback)
            watch = self._watch
            if watch is None:
                watch = self._watch = self._store.watch()
                ids = list(self._waiting)
                self._thread = threading.Thread(
                    target=self._run, args=(watch,), name="celeriac-watcher", daemon=True
                )
                self._thread.start()
            watch.add(ids)

    def discard(self, task_id: str, callback: Callback) -> None:
        """Wait no longer."""
        self.discard_all((task_id,), callback)

    def discard_all(self, ids: Sequence[str], callback: Callback) -> None:
        """Wait no longer for any of these."""
        with self._lock:
            gone = []
            for task_id in ids:
                callbacks = self._waiting.get(task_id)
                if callbacks is None:
                    continue
                if callback in callbacks:
                    callbacks.remove(callback)
                if not callbacks:
                    del self._waiting[task_id]
                    gone.append(task_id)
            if gone and self._watch is not None:
                self._watch.discard(gone)

    def wait(self, task_id: str, timeout: float | None) -> Record | None:
        """Block until the result is final; None when `timeout` seconds have passed."""
        found: list[Record] = []
        done = threading.Event()

        def callback(record: Record) -> None:
            found.append(record)
            done.set()

        self.add(task_id, callback)
        try:
            done.wait(timeout)
        finally:
            self.discard(task_id, callback)
        return found[0] if found else None

    def close(self) -> None:
        """End the thread, or have it end with the last waiter."""
        with self._lock:
            self._closing = True
            watch, thread, waiting = self._watch, self._thread, bool(self._waiting)
            if watch is None or thread is None or waiting:
                return
            watch.add((NOBODY,))
        if thread is not threading.current_thread():
            # It reads from a connection that is closed next, and would open it again.
            thread.join(2 * IDLE)

    def _run(self, watch: Watch) -> None:
        idle = 0
        while True:
            with self._lock:
                idle = 0 if self._waiting else idle + 1
                if idle > 6 or (idle and self._closing):
                    self._watch = None
                    break
            try:
                records = watch.poll(IDLE)
            except BrokerUnavailable as error:
                logger.warning("the result store is away, waiting goes on: %s", error)
                time.sleep(IDLE)
                continue
            except Exception:  # whatever it is, who waits must not wait on a dead thread
                logger.exception("waiting for results failed, it is tried again")
                time.sleep(IDLE)
                continue
            for record in records.values():
                with self._lock:
                    callbacks = self._waiting.pop(record.id, ())
                for callback in callbacks:
                    try:
                        callback(record)
                    except Exception:  # a caller's `then`: the others wait on this thread too
                        logger.exception("a callback of result %s failed", record.id)
        watch.close()
