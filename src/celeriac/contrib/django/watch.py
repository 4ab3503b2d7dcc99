"""Waiting for results in a store that tells nobody: looking, soon at first and then less often.

Owns: PollingWatch, Notice.  Thread rule: see `ports.results.Watch`.  May import: celeriac.kernel.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from celeriac.kernel.message import Record
from celeriac.kernel.states import READY_STATES

FIRST, LONGEST, GROWTH = 0.02, 0.5, 1.5
"""Seconds between two looks: at first, at most, and by what they grow."""


class Notice:
    """Tells the watches of this process that something was stored in it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.count = 0

    def tell(self) -> None:
        """Have every watch look now."""
        with self.changed:
            self.count += 1
            self.changed.notify_all()


class PollingWatch:
    """One waiter for any number of results.

    :param fetch: of the store.
    :param notice: of the store too.
    :param rest: called by who polls, when there is nothing to look for or no end to wait for.
    """

    def __init__(
        self,
        fetch: Callable[[Sequence[str]], Mapping[str, Record]],
        notice: Notice,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._fetch, self._notice, self._rest = fetch, notice, rest
        self._ids: dict[str, None] = {}
        self._added, self._closed = 0, False
        self._pause = FIRST

    def add(self, ids: Sequence[str]) -> None:
        """Watch these too."""
        with self._notice.changed:
            self._ids.update(dict.fromkeys(ids))
            self._added += 1
            self._pause = FIRST
            self._notice.changed.notify_all()

    def discard(self, ids: Sequence[str]) -> None:
        """Watch these no longer."""
        with self._notice.changed:
            for task_id in ids:
                self._ids.pop(task_id, None)

    def poll(self, wait: float) -> Mapping[str, Record]:
        """Look until something is final, something is added, or the time is up."""
        ends = time.monotonic() + wait
        added = self._added
        while True:
            with self._notice.changed:
                ids, count = list(self._ids), self._notice.count
            if not ids:
                self._rest()
            found = {
                task_id: record
                for task_id, record in (self._fetch(ids) if ids else {}).items()
                if record.state in READY_STATES
            }
            with self._notice.changed:
                # Discarded meanwhile: nobody waits for it.
                found = {task_id: found[task_id] for task_id in found if task_id in self._ids}
                for task_id in found:
                    del self._ids[task_id]
                left = ends - time.monotonic()
                if found or left <= 0 or added != self._added or self._closed:
                    return found
                if count == self._notice.count:
                    pause = self._pause if self._ids else left
                    self._notice.changed.wait(min(left, pause))
                    self._pause = min(LONGEST, self._pause * GROWTH)
                if added != self._added and not self._ids:
                    return {}

    def close(self) -> None:
        """End a poll that waits."""
        self._rest()
        with self._notice.changed:
            self._closed = True
            self._ids.clear()
            self._notice.changed.notify_all()
